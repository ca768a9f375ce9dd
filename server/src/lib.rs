//! The production broker: the real world, configuration, command line.
//!
//! [`world`] implements `env` on tokio, files and sockets; [`node`] turns Kafka's configuration keys into what
//! `broker::Broker` is started with; [`serve`] is a broker's life as a process, [`observe`] what it
//! tells an operator's tools meanwhile; [`cli`] is everything a user can type.
//! Nobody imports this crate: what it holds is the outermost layer.

pub mod cli;
pub mod exit;
pub mod logging;
pub mod node;
pub mod observe;
pub mod properties;
pub mod runtime;
pub mod serve;
pub mod world;
