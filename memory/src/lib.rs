//! What a process has of memory and does not need: free pages of the allocator, and code that hardly will run again. Giving
//! it back is for pauses; when that is, runner and operator know.

pub mod code;
pub mod heap;
