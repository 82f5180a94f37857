//! The port and the API as they are attacked: real TLS, real MQTT, a coordinator in this process.

#[path = "front/attacks.rs"]
mod attacks;
#[path = "front/board.rs"]
mod board;
#[path = "front/floods.rs"]
mod floods;
#[path = "front/joining.rs"]
mod joining;
#[path = "front/operators.rs"]
mod operators;
#[path = "front/requests.rs"]
mod requests;
