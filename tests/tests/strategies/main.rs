//! Every way in which a release reaches a fleet, lived as a user would: on real Docker, through the real command line, and
//! under load where nobody may notice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod blue_green;
mod canary;
mod going_back;
mod healing;
mod many_deploys;
mod steering;
mod waves;
mod world;
