//! The error body of the Network API: `{"NeutronError": {"type", "message", "detail"}}`.
//!
//! Source: neutron, api/v2/resource.py and exceptions of neutron-lib.

use serde_json::{Value, json};
use whimbrel_core::network::refusal::Refusal;

/// A refusal as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub status: u16,
    /// Neutron's name of the exception, by which clients tell one 409 from another.
    pub kind: &'static str,
    pub message: String,
}

pub const BAD_REQUEST: &str = "HTTPBadRequest";

impl Fault {
    pub fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Fault {
        Fault { status, kind, message: message.into() }
    }

    pub fn bad_request(message: impl Into<String>) -> Fault {
        Fault::new(400, BAD_REQUEST, message)
    }

    pub fn invalid(what: impl std::fmt::Display) -> Fault {
        Fault::new(400, "InvalidInput", format!("Invalid input for operation: {what}."))
    }

    pub fn body(&self) -> Value {
        json!({ "NeutronError": { "type": self.kind, "message": self.message, "detail": "" } })
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        let (status, kind) = match &refusal {
            Refusal::BadCidr(_) | Refusal::BadMac(_) => (400, BAD_REQUEST),
            Refusal::GatewayOutside { .. }
            | Refusal::SubnetsOverlap { .. }
            | Refusal::SubnetElsewhere { .. }
            | Refusal::BadBridge(_)
            | Refusal::BadVlan(_)
            | Refusal::BadMtu(_) => return Fault::invalid(refusal),
            Refusal::GatewayInPool { .. } => (409, "GatewayConflictWithAllocationPools"),
            Refusal::GatewayInUse { .. } => (409, "GatewayIpInUse"),
            Refusal::BadPool(_) => (400, "InvalidAllocationPool"),
            Refusal::PoolOutside { .. } => (400, "OutOfBoundsAllocationPool"),
            Refusal::PoolsOverlap { .. } => (409, "OverlappingAllocationPools"),
            Refusal::AddressOutsideSubnet(_) => (400, "InvalidIpForSubnet"),
            Refusal::AddressOutsideNetwork(_) => (400, "InvalidIpForNetwork"),
            Refusal::NoAddressLeft(_) => (409, "IpAddressGenerationFailure"),
            Refusal::AddressTaken { .. } => (409, "IpAddressAlreadyAllocated"),
            Refusal::MacTaken { .. } => (409, "MacAddressInUse"),
            Refusal::WireTaken { vlan: Some(_), .. } => (409, "VlanIdInUse"),
            Refusal::WireTaken { vlan: None, .. } => (409, "FlatNetworkInUse"),
            Refusal::NetworkInUse(_) => (409, "NetworkInUse"),
            Refusal::SubnetInUse(_) => (409, "SubnetInUse"),
            Refusal::PortInUse { .. } => (409, "PortInUse"),
            Refusal::GroupInUse(_) => (409, "SecurityGroupInUse"),
            Refusal::NoGroup(_) => (404, "SecurityGroupNotFound"),
            Refusal::RuleExists => (409, "SecurityGroupRuleExists"),
        };
        Fault::new(status, kind, refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use whimbrel_core::id::NetworkId;

    use super::*;

    #[test]
    fn a_refusal_has_its_name_and_status() {
        let check = |refusal: Refusal, status: u16, kind: &str, message: &str| {
            let fault = Fault::from(refusal);
            assert_eq!((fault.status, fault.kind, fault.message.as_str()), (status, kind, message));
            assert_eq!(fault.body()["NeutronError"], json!({"type": kind, "message": message, "detail": ""}));
        };
        let id = NetworkId(Uuid::nil());
        check(
            Refusal::NoAddressLeft(id),
            409,
            "IpAddressGenerationFailure",
            "No more IP addresses available on network 00000000-0000-0000-0000-000000000000.",
        );
        let bad = "Invalid input for operation: segmentation_id out of range (1 through 4094): 5000.";
        check(Refusal::BadVlan(5000), 400, "InvalidInput", bad);
    }
}
