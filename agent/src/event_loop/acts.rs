//! What goes out of the loop's state, and what it asks of whoever drives it: the border between deciding and doing.

use std::collections::BTreeSet;
use std::net::IpAddr;

use planner::Now;
use planner::node::Probed;
use protocol::hello::Load;
use protocol::id::{CommandId, ServiceName};
use protocol::join::Coordinators;
use protocol::manifest::Version;
use protocol::release::{Image, Pin};
use protocol::secret;
use proxy::Table;

use super::commanding::Stream;
use super::updating::UpdateAct;
use super::writing::Write;
use crate::execute::Task;
use crate::link::Outgoing;
use crate::load::Detail;
use crate::local::Answer;
use crate::observe::gather::Scope;
use crate::policy::Looked;
use crate::probe::{Counting, ProbeTarget};

/// Something to do. The order of acts is the order of doing; none of them asks for a choice.
#[derive(Debug)]
pub enum Act {
    /// Ask engine and proxy; ends with [`super::Event::Gathered`].
    Gather {
        /// What to ask.
        scope: Scope,
        /// Counts the gatherings.
        number: u64,
        /// When it begins.
        began: Now,
        /// Which images.
        images: Vec<Image>,
        /// The node's policy as it was seen last; one that has changed comes first, as [`super::Event::Policy`].
        policy: Option<Looked>,
    },
    /// Set the proxy's table; ends with [`super::Event::TableSet`].
    SetTable {
        /// Whose routes it is set for.
        services: BTreeSet<ServiceName>,
        /// All of it.
        table: Table,
    },
    /// A step of a service; ends with [`super::Event::StepDone`].
    Execute {
        /// Whose. None other of it is under way.
        service: ServiceName,
        /// The step's name for people.
        name: String,
        /// What to do.
        task: Task,
    },
    /// Ask for the end of a container's log; ends with [`super::Event::Evidence`].
    CollectEvidence {
        /// Whose release is given up.
        service: ServiceName,
        /// The engine's id.
        container: String,
    },
    /// Make a change durable, while none other is on its way; ends with [`super::Event::Written`].
    Write(Box<Write>),
    /// Begin to pull; goes on with [`super::Event::Pull`].
    Pull {
        /// Who needs it first.
        service: ServiceName,
        /// What.
        image: Image,
        /// Who the node is to the image's registry, sealed.
        login: Option<secret::Copy>,
        /// Tells pulls of one image apart.
        number: u64,
    },
    /// Stop a pull.
    CancelPull(Pin),
    /// Remove an image; ends with [`super::Event::ImageRemoved`].
    RemoveImage(Image),
    /// Remove a damaged image under all its names; ends with [`super::Event::ImageDiscarded`].
    DiscardImage(Image),
    /// Look at the program of a container that ended at once, and at its log; ends with [`super::Event::Examined`].
    Examine {
        /// The engine's id.
        container: String,
    },
    /// Ask how much of their memory limits these containers use; ends with [`super::Event::Measured`].
    Measure(Vec<String>),
    /// Whom to probe from now on; changes come as [`super::Event::Probe`].
    Probe(Vec<ProbeTarget>),
    /// Whether failures of probes count from now on.
    Count(Counting),
    /// Keep where the coordinator is; ends with [`super::Event::Learned`].
    Learn(Coordinators),
    /// Answer what root of the board asked.
    Answer {
        /// As it was asked.
        number: u64,
        /// What.
        answer: Box<Answer>,
    },
    /// Begin, keep or end the answer to a command; it goes on with [`super::Event::Stream`].
    Stream(CommandId, Stream),
    /// Something for releases of the agent.
    Update(UpdateAct),
    /// Say something; where nobody takes it, [`super::Event::Unsaid`].
    Say(Outgoing),
}

/// What is read outside at the moment of a decision.
pub trait Surroundings {
    /// What the probes of a container say; none: it is not probed.
    fn probed(&self, container: &str) -> Option<Probed>;

    /// Bytes of memory that are free; none where the system does not tell.
    fn memory_available(&self) -> Option<u64>;

    /// The address from which this machine reaches others, where there is one.
    fn own_address(&self) -> Option<IpAddr>;

    /// A sample of what the board carries, with the disk of the engine's `root_dir`, and with all that is asked for in `detail`; none
    /// where the system tells nothing.
    fn load(&mut self, root_dir: &str, seen: Version, detail: Option<Detail<'_>>) -> Option<Load>;

    /// Bytes that nobody can foresee.
    fn nonce(&mut self) -> [u8; 16];
}
