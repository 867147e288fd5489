//! Every test that needs a broker, another process or an independent reader. One binary: it links the engine once.

mod environment;
