//! The data listener of a real agent against those who have no right to it, and against a source that says what cannot be.
mod agent;
mod frames;
mod intruders;
