//! Networks of guests: which addresses there are, who gets which, and on what wire they are used.
//!
//! ```text
//! network = a wire (bridge, VLAN) that is the same on all hosts
//!   └ subnet = addresses on it: range, gateway, pools
//!       └ port = a MAC with addresses of its own; a NIC once a server has it
//! ```
//!
//! Ground rules: pure, as all of this crate; a pool never holds the gateway, so what is given out never is the gateway;
//! no address is given twice, which the store sees to. Words of refusals are Neutron's, since clients read them.
//! Sources: neutron, ipam/utils.py, db/ipam_backend_mixin.py; neutron-lib, exceptions/__init__.py.
pub mod address;
pub mod choice;
pub mod mac;
pub mod refusal;
pub mod subnet;
pub mod wire;
