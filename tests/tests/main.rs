//! Every test that needs a broker, another process or an independent reader. One binary: it links the engine once.

mod controls;
mod environment;
mod events;
mod kill;
mod owners;
mod result;
mod security;
mod sources;
mod state;
