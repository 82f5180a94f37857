//! A node told as stories and checked by properties, on a simulated world that does what an executor would do.

mod beside;
mod damage;
mod elsewhere;
mod going_back;
mod held;
mod policy;
mod properties;
mod retired;
mod secrets;
mod stories;
mod wishes;
mod world;
