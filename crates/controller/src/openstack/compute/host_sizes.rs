//! What a host has and what of it is in use, by Nova's formulas.
//!
//! | size | formula |
//! |---|---|
//! | `memory_mb_used` | reserve + RAM claimed by servers here and on their way |
//! | `free_ram_mb` | `memory_mb` - `memory_mb_used` |
//! | `local_gb_used` | sizes of their disks, as the guests see them |
//! | `free_disk_gb` | `local_gb` - `local_gb_used` |
//! | `disk_available_least` | free space of the file system, less what all disks may still grow by |
//!
//! Source: nova, compute/resource_tracker.py and virt/libvirt/driver.py.

use std::collections::HashSet;

use whimbrel_api::openstack::compute::hypervisor::Sizes;
use whimbrel_core::{host::HostFacts, id::InstanceId};
use whimbrel_store::HostUse;

const GIB: u64 = 1 << 30;

/// `counted` are the servers whose disks the facts know of already.
pub(super) fn sizes(facts: &HostFacts, used: &HostUse, counted: &HashSet<InstanceId>) -> Sizes {
    let memory_mb_used = facts.reserved_memory_mb.saturating_add(used.ram_mb);
    let (local_gb, local_gb_used) = (facts.disk_total_bytes / GIB, used.virtual_bytes / GIB);
    let uncounted = used.disk_claims.iter().filter(|(instance, _)| !counted.contains(instance));
    let uncounted_bytes = uncounted.fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let least_bytes = facts.disk_available_least_bytes().saturating_sub_unsigned(uncounted_bytes);
    Sizes {
        vcpus: u64::from(facts.vcpus),
        vcpus_used: used.vcpus,
        memory_mb: facts.memory_mb,
        memory_mb_used,
        local_gb,
        local_gb_used,
        free_ram_mb: less(facts.memory_mb, memory_mb_used),
        free_disk_gb: less(local_gb, local_gb_used),
        disk_available_least_gb: Some(least_bytes.div_euclid(GIB as i64)),
        running_vms: u64::from(used.running),
        current_workload: u64::from(used.with_task),
    }
}

fn less(total: u64, used: u64) -> i64 {
    i64::try_from(total).unwrap_or(i64::MAX).saturating_sub_unsigned(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_formulas() {
        let facts: HostFacts = serde_json::from_value(serde_json::json!({
            "name": "h1", "qemu_version": "7.2.22", "machines": [], "cpu_models": [], "accel": "tcg", "vcpus": 4,
            "memory_mb": 4096, "memory_mb_used": 99, "reserved_memory_mb": 512, "ram_allocation_ratio": 1.5,
            "disk_total_bytes": 100 * GIB + 1, "disk_free_bytes": 60 * GIB, "disk_committed_bytes": 5 * GIB, "bridges": [],
            "images": [], "migration_address": "", "iothreads_safe": false,
        }))
        .unwrap();
        let id = |number| InstanceId(uuid::Uuid::from_u128(number));
        let used = HostUse {
            running: 1,
            with_task: 2,
            vcpus: 6,
            ram_mb: 4000,
            virtual_bytes: 11 * GIB - 1,
            disk_claims: [(id(1), 10 * GIB), (id(2), GIB)].into(),
        };
        let check = |counted: &[u128], least| {
            let counted = counted.iter().map(|number| id(*number)).collect();
            let want = Sizes {
                vcpus: 4,
                vcpus_used: 6,
                memory_mb: 4096,
                memory_mb_used: 4512,
                local_gb: 100,
                local_gb_used: 10,
                free_ram_mb: -416,
                free_disk_gb: 90,
                disk_available_least_gb: Some(least),
                running_vms: 1,
                current_workload: 2,
            };
            assert_eq!(sizes(&facts, &used, &counted), want);
        };
        check(&[1, 2], 55);
        check(&[1], 54);
        check(&[], 44);
    }
}
