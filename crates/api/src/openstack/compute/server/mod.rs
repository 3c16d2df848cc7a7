//! Servers: what the API says of one, and what it is asked to make or change.
//!
//! | file | holds |
//! |---|---|
//! | `record` | what the controller knows of a server |
//! | `state` | its states, and the status that they add up to |
//! | `answer` | bodies of `GET /servers`, `/servers/detail`, `/servers/{id}`, and of a create and an update |
//! | `create` | `POST /servers`, `boot` the networks and disks in it, `hints` what it asks of the scheduler |
//! | `update` | `PUT /servers/{id}` |
//!
//! Sources: nova, api/openstack/compute/servers.py, views/servers.py, schemas/servers.py.

pub mod answer;
pub mod boot;
pub mod create;
pub mod hints;
pub mod record;
pub mod state;
pub mod tags;
pub mod update;
