//! Every test that needs a broker, another process or an independent reader. One binary: it links the engine once.

mod bad_input;
mod batch;
mod chart;
mod cluster;
mod controls;
mod demo;
mod enrichment;
mod environment;
mod events;
mod guide;
mod guides;
mod http;
mod kill;
mod local;
mod memory;
mod outputs;
mod owners;
mod readers;
mod result;
mod security;
mod sessions;
mod shipped;
mod sources;
mod state;
mod tidy;
mod topics;
