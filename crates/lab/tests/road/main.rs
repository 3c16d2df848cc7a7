//! Labs with real namespaces, processes and guests. Needs root. The tests take turns, or they would measure each other.

mod ground;
mod harness;
