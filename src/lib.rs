//! Raftsman: a Kafka-wire-compatible, partitioned, replicated log broker.
//!
//! ARCHITECTURE.md is the map. A module may use only what stands above it in this list.

// A node is a value of its surroundings (`env`): nothing else reaches outside. clippy.toml has the list, with reasons.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod types;

pub mod env;

pub mod config;

pub mod protocol;

pub mod client;

pub mod segment;

pub mod zerocopy;

pub mod metadata;

pub mod raft;

pub mod controller;

pub mod partition;

pub mod replication;

pub mod coordinator;

pub mod server;

pub mod admin;

pub mod node;

pub mod cli;
