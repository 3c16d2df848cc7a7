//! What the controller remembers, in SQL: SQLite (one file, the default) or PostgreSQL (several controllers).
//!
//! Ground rules:
//! - the same statements for both engines: `$1` placeholders, TEXT, BIGINT; every one is tested on both;
//! - what must hold together is one transaction here, never two calls of the caller: a migration and its claim, the end
//!   of a migration and the instance's host, a join token and its use;
//! - a change that depends on what was read is a compare-and-set (`generation`, `epoch`, `used_us IS NULL`);
//! - a list is a page: at most [`PAGE_MAX`] rows after a marker, in the order of ids (UUIDv7: of creation);
//! - time and ids come from the caller.
mod aggregate;
mod api_token;
mod claim;
mod counter;
mod error;
mod flavor;
mod flavor_extra;
mod host;
mod host_use;
mod identity;
mod image;
mod image_entry;
mod instance;
mod instance_action;
mod join_token;
mod key_pair;
mod lease;
mod migration;
mod migration_list;
mod network;
mod open;
mod page;
mod pulse;
mod quota;
mod record;
mod schema;
mod server;
mod server_group;
mod usage;

pub use aggregate::{AggregateRow, NewAggregate};
pub use api_token::{ApiToken, TokenRole};
pub use claim::{HostLoad, Room};
pub use error::{Result, StoreError};
pub use flavor::FlavorRow;
pub use host::{HostChange, HostMark, HostRow, HostState, Reported};
pub use host_use::HostUse;
pub use identity::{
    DomainRow, GrantFilter, GrantRow, GrantScope, Grantee, IdentityToken, ProjectRow, RoleRow, UserRow,
};
pub use image::{ImageDisk, ImageRow};
pub use image_entry::{ImageEntry, ImageUpload, UploadedContent};
pub use instance::{Desired, InstanceNews, InstanceRow, NewInstance, TaskState};
pub use instance_action::{ActionEventRow, ActionRow, EventResult, MOVE_EVENT};
pub use join_token::NewJoinToken;
pub use key_pair::{KeyKind, KeyPairRow, NewKeyPair};
pub use lease::{ControllerRow, LeaseLook};
pub use migration::{MigrationKind, MigrationNews, MigrationRow, NewMigration};
pub use migration_list::MigrationFilter;
pub use network::{
    NetworkError, NetworkRow, NewPort, PortAddress, PortChange, PortFilter, PortHold, PortRow, PortWish, Route,
    RuleDirection, SecurityGroupRow, SecurityGroupRuleRow, SubnetRow,
};
pub use open::{Engine, Store};
pub use page::{PAGE_MAX, Page, PageAsk, every};
pub use pulse::{Heard, KnownInstance, Pulse};
pub use quota::ProjectQuotas;
pub use server::ServerFilter;
pub use server_group::{GroupLimits, GroupPolicy, GroupRules, ServerGroupRow};
pub use usage::UsageRow;
