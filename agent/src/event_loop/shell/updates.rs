//! What the shell does for releases of the agent: brings programs, writes the record, asks the proxy to exchange itself.

use tokio::task::JoinError;

use super::{Event, Outside, Told, tell};
use crate::engine::Engine;
use crate::engine::pull::AbortOnDrop;
use crate::event_loop::{UpdateAct, UpdateNews};
use crate::failpoint;
use crate::update::fetch::Order;
use crate::update::record::{self, Record};

impl<E: Engine> Outside<E> {
    pub(super) fn update(&mut self, act: UpdateAct) {
        match act {
            UpdateAct::Fetch(order) => self.fetch_agent(order),
            UpdateAct::Keep(record) => self.keep_record(*record),
            UpdateAct::RenewProxy => self.renew_proxy(),
            UpdateAct::End => self.is_ending = true,
        }
    }

    fn fetch_agent(&mut self, order: Order) {
        let (told, source, counter) = (self.told.clone(), self.programs.clone(), order.counter);
        let news = |news| Told::Event(Event::Update(news));
        let task = tokio::task::spawn_local(async move {
            let said = async |why| tell(&told, news(UpdateNews::Delayed(counter, why))).await;
            let fetched = source.fetch(&order, said).await;
            tell(&told, news(UpdateNews::Fetched(counter, fetched))).await;
        });
        self.fetching = Some(AbortOnDrop(task.abort_handle()));
    }

    /// A card may take its time to write.
    fn keep_record(&self, record: Record) {
        let number = failpoint::before("agent record");
        let (told, dir) = (self.told.clone(), self.programs.dialling.state_dir.clone());
        tokio::task::spawn_local(async move {
            let kept = tokio::task::spawn_blocking(move || record::write(&dir, &record)).await;
            let result = match kept {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(error) => Err(JoinError::to_string(&error)),
            };
            let event = Event::Update(UpdateNews::Kept(result));
            tell(&told, Told::Step { number, event }).await;
        });
    }

    fn renew_proxy(&self) {
        let (told, proxy) = (self.told.clone(), self.proxy.clone());
        tokio::task::spawn_local(async move {
            let result = proxy.renew().await.map_err(|error| error.to_string());
            tell(&told, Told::Event(Event::Update(UpdateNews::ProxyRenewed(result)))).await;
        });
    }
}
