//! Images come and go.

use std::rc::Rc;

use protocol::id::ServiceName;
use protocol::release::{Image, Pin};
use protocol::secret;

use super::super::Event;
use super::{Outside, Told, tell};
use crate::engine::{Autopsy, Engine, PullUpdate};
use crate::failpoint;

impl<E: Engine> Outside<E> {
    pub(super) fn forget_pull(&mut self, event: &Event) {
        if let Event::Pull { pin, number, update: PullUpdate::Done | PullUpdate::Failed { .. } } =
            event
            && self.pulls.get(pin).is_some_and(|(current, _)| current == number)
        {
            self.pulls.remove(pin);
        }
    }

    /// The board's own file goes before what was sealed to it.
    pub(super) fn pull(
        &mut self,
        service: &ServiceName,
        image: Image,
        sealed: Option<&secret::Copy>,
        number: u64,
    ) {
        let step = failpoint::before(&format!("pull {service}"));
        let engine = &self.executor.engine;
        let mut pull = match &image.pin {
            Pin::Archive(archive) => self.archives.pull(engine, &image, archive),
            Pin::Digest(_) | Pin::ImageId(_) => {
                let login = self.registries.login_for(&image.reference);
                let login = login.or_else(|| self.executor.login(sealed?, &image.reference));
                engine.pull(&image, login.as_ref())
            }
        };
        let (told, pin) = (self.told.clone(), image.pin.clone());
        let task = tokio::task::spawn_local(async move {
            while let Some(update) = pull.next().await {
                let pin = pin.clone();
                tell(&told, Told::Event(Event::Pull { pin, number, update })).await;
            }
        });
        self.pulls.insert(image.pin, (number, task.abort_handle()));
        failpoint::after(step);
    }

    pub(super) fn remove_image(&self, image: Image) {
        let (told, executor) = (self.told.clone(), Rc::clone(&self.executor));
        tokio::task::spawn_local(async move {
            let result = executor.engine.remove_image(&image).await;
            tell(&told, Told::Event(Event::ImageRemoved { pin: image.pin, result })).await;
        });
    }

    pub(super) fn discard_image(&self, image: Image) {
        let (told, executor) = (self.told.clone(), Rc::clone(&self.executor));
        tokio::task::spawn_local(async move {
            let result = executor.engine.discard_image(&image).await;
            tell(&told, Told::Event(Event::ImageDiscarded { pin: image.pin, result })).await;
        });
    }

    /// The log first: where the engine gives none, the program says enough.
    pub(super) fn examine(&self, container: String) {
        let (told, executor) = (self.told.clone(), Rc::clone(&self.executor));
        tokio::task::spawn_local(async move {
            let log = executor.log_tail(&container).await;
            let programs = executor.engine.programs(&container).await;
            let result = programs.map(|programs| Autopsy { programs, log });
            tell(&told, Told::Event(Event::Examined { container, result })).await;
        });
    }
}
