//! Bodies of the Network API, version 2.0: one file per resource, records in and JSON out, requests in and typed values out.
//!
//! | file | holds |
//! |---|---|
//! | `resource` | tables of attributes: which there are, and when a request may name them |
//! | `fields` | the strict reading of a request |
//! | `list` | filters, fields, order and pages of a list |
//! | `fault` | the error body |
//! | `networks`, `subnet`, `port` | the resources that guests are connected by |
//! | `security_group`, `security_group_rule` | groups and their rules, which are kept and not enforced |
//! | `service` | versions, extensions, availability zones, quotas: what the service says of itself |
//!
//! Ground rules: pure. An attribute stands once, in its resource's table: a request that names another one is refused, and so is
//! a filter; the extensions that are named are those that are there. Words of refusals are Neutron's.
//! Sources: neutron-lib, api/definitions/*.py and api/attributes.py; neutron, api/api_common.py and api/v2/base.py.

pub mod fault;
pub mod fields;
pub mod list;
pub mod networks;
pub mod port;
pub mod resource;
pub mod security_group;
pub mod security_group_rule;
pub mod service;
pub mod subnet;
