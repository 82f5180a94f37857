//! Against a stub registry and a stub Docker that speak HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::*;

const MANIFEST: &str = "{\"schemaVersion\":2}";

/// How the stub registry wants to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Login {
    None,
    Basic,
    Bearer,
}

/// How it says the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Header,
    BodyOnly,
}

#[derive(Debug)]
struct Stub {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

fn digest_of(text: &str) -> String {
    format!("sha256:{}", protocol::id::sha256_hex(text.as_bytes()))
}

async fn registry(login: Login, says: Says) -> Stub {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let app = Router::new().fallback(move |request: Request| {
        log.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
        let answer = answer(&request, login, says, address);
        async move { answer }
    });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Stub { address, seen }
}

fn answer(request: &Request, login: Login, says: Says, address: SocketAddr) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let basic = format!("Basic {}", BASE64.encode("pi:secret"));
    let path = request.uri().path().to_owned();
    if path == "/token" {
        let right = given.is_empty() || given == basic;
        let status = if right { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        return (status, "{\"token\":\"t0ken\"}").into_response();
    }
    let allowed = match login {
        Login::None => true,
        Login::Basic => given == basic,
        Login::Bearer => given == "Bearer t0ken",
    };
    if !allowed {
        let challenge = match login {
            Login::Bearer => format!("Bearer realm=\"http://{address}/token\",service=\"stub\""),
            Login::Basic | Login::None => "Basic realm=\"stub\"".to_owned(),
        };
        let head = [(header::WWW_AUTHENTICATE, challenge)];
        return (StatusCode::UNAUTHORIZED, head, "").into_response();
    }
    if let Some(document) = path.strip_prefix("/v2/team/web/manifests/").and_then(by_digest) {
        return document.into_response();
    }
    if path != "/v2/team/web/manifests/v1" {
        return StatusCode::NOT_FOUND.into_response();
    }
    match says {
        Says::Header => {
            ([("docker-content-digest", digest_of(MANIFEST))], MANIFEST).into_response()
        }
        Says::BodyOnly => MANIFEST.into_response(),
    }
}

/// An image of this many bytes: its configuration has one, its layers the rest.
fn image_of(bytes: u64) -> String {
    let half = (bytes - 1) / 2;
    let rest = bytes - 1 - half;
    format!(
        "{{\"config\":{{\"size\":1}},\"layers\":[{{\"size\":{half}}},{{\"size\":{rest},\"urls\":[]}}]}}"
    )
}

/// An index of images of that many bytes, per platform, with an attestation as build tools add them.
fn index_of(platforms: &[(&str, &str, u64)]) -> String {
    let attestation = ("unknown", "unknown", 5);
    let entry = |(architecture, os, bytes): &(&str, &str, u64)| {
        let digest = digest_of(&image_of(*bytes));
        format!(
            "{{\"digest\":\"{digest}\",\"size\":400,\"platform\":{{\"architecture\":\"{architecture}\",\"os\":\"{os}\"}}}}"
        )
    };
    let entries: Vec<String> = std::iter::once(&attestation).chain(platforms).map(entry).collect();
    format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", entries.join(","))
}

const PLATFORMS: [(&str, &str, u64); 3] =
    [("arm64", "windows", 900), ("arm64", "linux", 2_000), ("386", "linux", 3_000)];

/// What the stub registry has by digest.
fn by_digest(digest: &str) -> Option<String> {
    let images = [900, 2_000, 3_000, 5].map(image_of);
    let documents = images.into_iter().chain([index_of(&PLATFORMS), "[]".to_owned()]);
    documents.into_iter().find(|document| digest_of(document) == digest)
}

/// The sizes that the stub registry tells of a document, for nodes of three kinds.
async fn sizes(document: &str, login: Login) -> Vec<(String, u64)> {
    install_tls();
    let stub = registry(login, Says::Header).await;
    let reference = format!("{}/team/web:v1", stub.address);
    let pin = Pin::Digest(digest_of(document).parse().unwrap());
    let nodes = ["amd64", "arm64", "riscv64"].map(str::to_owned).into();
    let sizes = sources("", None).sizes(&Image { reference, pin }, &nodes).await;
    sizes.into_iter().collect()
}

#[tokio::test]
async fn the_size_of_an_image_is_that_of_what_each_kind_of_node_pulls() {
    let of = |architecture: &str, bytes| (architecture.to_owned(), bytes);
    let index = sizes(&index_of(&PLATFORMS), Login::Bearer).await;
    assert_eq!(index, [of("amd64", 3_000), of("arm64", 2_000)], "nothing for riscv64");
    let one = sizes(&image_of(2_000), Login::None).await;
    assert_eq!(one, [of("amd64", 2_000), of("arm64", 2_000), of("riscv64", 2_000)]);
}

#[tokio::test]
async fn sizes_that_cannot_be_learned_are_no_mistake() {
    assert_eq!(sizes("unknown", Login::None).await, []);
    assert_eq!(sizes("[]", Login::None).await, [], "not a manifest");
    assert_eq!(sizes(&image_of(900), Login::Basic).await, [], "credentials are missing");
    let local = Image {
        reference: "web:v1".to_owned(),
        pin: Pin::ImageId(digest_of("id").parse().unwrap()),
    };
    let nodes = ["arm64".to_owned()].into();
    assert_eq!(sources("", None).sizes(&local, &nodes).await, BTreeMap::new());
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = format!("{}/team/web:v1", closed.local_addr().unwrap());
    drop(closed);
    let away = Image { reference: away, pin: Pin::Digest(digest_of("x").parse().unwrap()) };
    assert_eq!(sources("", None).sizes(&away, &nodes).await, BTreeMap::new());
}

/// A Docker that knows these images: reference to inspect JSON.
async fn docker(images: &[(&str, String)]) -> (Docker, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let socket: PathBuf = dir.path().join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let images: BTreeMap<String, String> =
        images.iter().map(|(name, json)| (format!("/images/{name}/json"), json.clone())).collect();
    let app = Router::new().fallback(move |request: Request| {
        let found = images.get(request.uri().path()).cloned();
        let info = "{\"RegistryConfig\":{\"IndexConfigs\":{}}}".to_owned();
        let found = found.or((request.uri().path() == "/info").then_some(info));
        async move {
            found.map_or_else(
                || (StatusCode::NOT_FOUND, "{\"message\":\"No such image\"}").into_response(),
                |json| json.into_response(),
            )
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (Docker::at(socket).unwrap(), dir)
}

fn sources(toml: &str, docker: Option<Docker>) -> Sources {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registries.toml");
    std::fs::write(&path, toml).unwrap();
    Sources { registries: Registries::load(&path, None).unwrap(), docker }
}

fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

async fn check_login(login: Login, toml: impl Fn(SocketAddr) -> String, says: &str) {
    install_tls();
    let stub = registry(login, Says::Header).await;
    let sources = sources(&toml(stub.address), None);
    let resolved = sources.resolve(&format!("{}/team/web:v1", stub.address)).await;
    let shown = match resolved {
        Ok(resolved) => resolved.image.pinned_reference(),
        Err(error) => error.to_string(),
    };
    assert!(shown.contains(says), "{login:?}: {shown}");
}

fn logged_in(password: &str) -> impl Fn(SocketAddr) -> String {
    let password = password.to_owned();
    move |address| {
        format!(
            "[[registry]]\nhost = \"{address}\"\nusername = \"pi\"\npassword = \"{password}\"\n"
        )
    }
}

#[tokio::test]
async fn a_tag_becomes_the_digest_of_its_index_under_every_kind_of_login() {
    let pinned = format!("/team/web@{}", digest_of(MANIFEST));
    check_login(Login::None, |_| String::new(), &pinned).await;
    check_login(Login::Basic, logged_in("secret"), &pinned).await;
    check_login(Login::Bearer, |_| String::new(), &pinned).await;
    check_login(Login::Bearer, logged_in("secret"), &pinned).await;
}

#[tokio::test]
async fn refused_credentials_say_as_whom_and_how_to_mend_it() {
    check_login(Login::Basic, |_| String::new(), "refuses an anonymous request").await;
    check_login(Login::Basic, logged_in("wrong"), "refuses user pi").await;
    check_login(Login::Bearer, logged_in("wrong"), "docker login").await;
}

#[tokio::test]
async fn a_registry_that_leaves_the_digest_out_is_asked_for_the_body() {
    install_tls();
    let stub = registry(Login::None, Says::BodyOnly).await;
    let resolved =
        sources("", None).resolve(&format!("{}/team/web:v1", stub.address)).await.unwrap();
    assert_eq!(resolved.image.pin, Pin::Digest(digest_of(MANIFEST).parse().unwrap()));
    let seen = stub.seen.lock().unwrap().clone();
    assert_eq!(seen, ["HEAD /v2/team/web/manifests/v1", "GET /v2/team/web/manifests/v1"]);
}

#[tokio::test]
async fn an_unknown_image_says_everything_that_was_tried() {
    install_tls();
    let stub = registry(Login::None, Says::Header).await;
    let (docker, _dir) = docker(&[]).await;
    let name = format!("{}/team/web:v9", stub.address);
    let error = sources("", Some(docker)).resolve(&name).await.unwrap_err().to_string();
    assert!(error.contains(&format!("image {name} was not found")), "{error}");
    assert!(error.contains("tried registry") && error.contains("has no team/web:v9"), "{error}");
    assert!(error.contains("tried local Docker: no image"), "{error}");
}

#[tokio::test]
async fn an_image_built_here_is_pinned_by_its_id_and_one_that_was_pulled_by_its_digest() {
    install_tls();
    let (id, digest) = (digest_of("id"), digest_of("index"));
    let built = format!("{{\"Id\":\"{id}\",\"RepoDigests\":null}}");
    let pulled = format!("{{\"Id\":\"{id}\",\"RepoDigests\":[\"redis@{digest}\"]}}");
    let (docker, _dir) = docker(&[("web:v1", built), ("redis:7", pulled)]).await;
    let sources = sources("", Some(docker));
    let pin = sources.resolve("web:v1").await.unwrap().image.pin;
    assert_eq!(pin, Pin::ImageId(id.parse().unwrap()));
    let pin = sources.resolve("redis:7").await.unwrap().image.pin;
    assert_eq!(pin, Pin::Digest(digest.parse().unwrap()));
}

#[tokio::test]
async fn a_digest_that_was_written_needs_nobody() {
    install_tls();
    let digest = digest_of("x");
    let resolved = sources("", None).resolve(&format!("r.io/web@{digest}")).await.unwrap();
    assert_eq!(resolved.image.pin, Pin::Digest(digest.parse().unwrap()));
}

#[tokio::test]
async fn a_plain_http_registry_that_dockerd_refuses_is_named_with_the_line_that_mends_it() {
    install_tls();
    let (docker, _dir) = docker(&[]).await;
    let sources = sources("[[registry]]\nhost = \"pi.local:5000\"\nhttp = true\n", Some(docker));
    let name = format!("pi.local:5000/web@{}", digest_of("x"));
    let warnings = sources.resolve(&name).await.unwrap().warnings.join("\n");
    assert!(warnings.contains("{\"insecure-registries\": [\"pi.local:5000\"]}"), "{warnings}");
}
