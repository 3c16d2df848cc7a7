//! Bodies of the Compute API: one file per resource, records in and JSON out, requests in and typed values out.
//!
//! | file | holds |
//! |---|---|
//! | `shape` | tables of an answer's fields, and who asks for it at which version |
//! | `fields`, `values`, `literal` | tables of a request's keys, the strict reading of their values, and how a refusal writes them |
//! | `query` | what stands behind the question mark of a list |
//! | `times` | times as the API writes and reads them |
//! | `versions` | the documents by which clients find the API |
//! | `flavor` | flavors, their extra specs and access lists |
//! | `server` | servers, and what is asked for one |
//! | `action` | what a server is asked to do, a live migration among it |
//! | `migration` | migrations, of a server and of all |
//! | `instance_action` | what was done to a server and how it went |
//! | `hypervisor`, `service`, `aggregate`, `availability_zone` | the hosts, as operators and users see them |
//! | `host_id` | how services and hypervisors are named in a path |
//! | `keypair`, `quota`, `usage`, `server_group` | what users have besides servers, and how much of it they may have |
//!
//! Ground rules: pure. What differs between microversions is a row of a const table, never a branch at the place of use. A
//! refusal says what Nova says, since clients and their tests read it.

pub mod action;
pub mod aggregate;
pub mod availability_zone;
pub mod fields;
pub mod flavor;
pub mod host_id;
pub mod hypervisor;
pub mod instance_action;
pub mod interface;
pub mod keypair;
pub mod literal;
pub mod migration;
pub mod query;
pub mod quota;
pub mod server;
pub mod server_group;
pub mod service;
pub mod shape;
pub mod times;
pub mod usage;
pub mod values;
pub mod versions;
