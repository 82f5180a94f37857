//! `pith page`

use std::net::Ipv4Addr;

use serde::Serialize;
use tokio::net::TcpListener;

use super::arguments::PageArgs;
use super::deploy::user;
use super::session::Session;
use super::{CliError, Exit};
use crate::page::{self, Page, Token};

/// Where it is served.
#[derive(Debug, Serialize)]
struct Served {
    url: String,
    port: u16,
}

pub(super) async fn run(session: &Session, args: PageArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    // Whoever may not look is told so here, not in a browser.
    let fleet = client.fleet().await?.fleet;
    let wanted = (Ipv4Addr::LOCALHOST, args.port.unwrap_or(0));
    let busy = |error| CliError::failed(format_args!("127.0.0.1:{}: {error}", wanted.1));
    let listener = TcpListener::bind(wanted).await.map_err(busy)?;
    let port = listener.local_addr().map_err(CliError::failed)?.port();
    let token = Token::new()?;
    let served = Served { url: token.address(port), port };
    if session.is_json() {
        // One line: it is read while this goes on.
        println!("{}", serde_json::json!(served));
    } else {
        println!("{}", served.url);
        println!("the page of fleet {fleet}, for you alone; Ctrl-C ends it");
    }
    let opened = if args.no_open { Ok(None) } else { page::open(&served.url) };
    if let Err(error) = &opened {
        eprintln!("no browser could be opened ({error}); open the address above");
    }
    let end = async { drop(tokio::signal::ctrl_c().await) };
    page::serve(listener, token, Page { client, by: user() }, end)
        .await
        .map_err(CliError::failed)?;
    Ok(Exit::Done)
}
