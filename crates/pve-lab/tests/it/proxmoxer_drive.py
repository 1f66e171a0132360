"""Drives a lab with proxmoxer: by token, then by ticket. The environment says where it is."""
import os
import time

from proxmoxer import ProxmoxAPI
from proxmoxer.tools import Tasks

env = os.environ
place = {"port": int(env["PROXMOX_API_PORT"]), "verify_ssl": env["PROXMOX_API_CA"]}
user, token = env["PROXMOX_API_USER"].split("!")
api = ProxmoxAPI(env["PROXMOX_API_HOST"], user=user, token_name=token, token_value=env["PROXMOX_API_PASSWORD"], **place)
node = api.nodes(api.nodes.get()[0]["node"])


def wait(upid):
    status = Tasks.blocking_status(api, upid, polling_interval=0.05)
    assert status["exitstatus"] == "OK", status


assert api.version.get()["version"]
wait(node.qemu.create(vmid=310, name="px", memory=512, scsi0="local-lvm:1", net0="virtio,bridge=vmbr0", agent=1, boot="order=scsi0"))
wait(node.qemu(310).status.start.post())
deadline = time.monotonic() + 30
while True:
    try:
        interfaces = node.qemu(310).agent("network-get-interfaces").get()["result"]
        break
    except Exception:
        assert time.monotonic() < deadline
        time.sleep(0.05)
assert {"lo", "eth0", "docker0"} <= {interface["name"] for interface in interfaces}, interfaces
try:
    node.qemu(999).config.get()
    raise SystemExit("a VM that is not there has a configuration")
except Exception as error:
    assert "does not exist" in str(error), error
wait(node.qemu(310).status.stop.post())
wait(node.qemu(310).delete())

root = ProxmoxAPI(env["PROXMOX_API_HOST"], user="root@pam", password=env["PVE_LAB_ROOT_PASSWORD"], **place)
assert int(root.cluster.nextid.get()) == 100
print("driven")
