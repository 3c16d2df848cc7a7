"""What a site's own script does with openstacksdk: a server made, moved, switched off and on, measured, deleted."""

import time

import openstack

SETTLE_TIME_MAX_S = 120


def moved_from(cloud, server, host):
    for _ in range(SETTLE_TIME_MAX_S):
        found = cloud.compute.get_server(server.id)
        assert found.status in ("ACTIVE", "MIGRATING"), found.status
        if found.status == "ACTIVE" and found.compute_host != host:
            return found
        time.sleep(1)
    raise AssertionError("the server did not move")


cloud = openstack.connect(cloud="envvars")
assert "med" in [flavor.name for flavor in cloud.compute.flavors()]
assert "guest" in [image.name for image in cloud.image.images()]
server = cloud.create_server(
    "sdk-1", image="guest", flavor="med", network="private", meta={"role": "web"}, wait=True, timeout=SETTLE_TIME_MAX_S
)
server = cloud.compute.get_server(server.id)
assert server.status == "ACTIVE" and server.metadata == {"role": "web"}, server
assert [address["addr"] for address in server.addresses["private"]], server.addresses
cloud.compute.live_migrate_server(server, host=None, block_migration=True)
server = moved_from(cloud, server, server.compute_host)
assert [one.status for one in cloud.compute.migrations(instance_uuid=server.id)] == ["completed"]
for act, status in ((cloud.compute.stop_server, "SHUTOFF"), (cloud.compute.start_server, "ACTIVE")):
    act(server)
    cloud.compute.wait_for_server(server, status=status, wait=SETTLE_TIME_MAX_S)
assert cloud.compute.find_hypervisor(server.compute_host).state == "up"
assert "sdk-1" in [one.name for one in cloud.compute.servers()]
assert cloud.delete_server(server.id, wait=True, timeout=SETTLE_TIME_MAX_S)
print("walked")
