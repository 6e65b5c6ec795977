"""A network namespace for each node of a cluster, bridged to the one that the clients are in; and what can go wrong there.

All is made in namespaces of this process's own (`enter`: network, mounts and processes), so nothing of it is seen on
the machine, and nothing is left when this process ends, however it ends. It needs root, or a kernel that lets
users have namespaces.
"""

import os
import pathlib
import subprocess

ENTERED = "RAFTSMAN_NAMESPACES"


def enter(command):
    """Starts `command` in place of this process, in namespaces of its own; returns when that is where it runs already."""
    if ENTERED in os.environ:
        return
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.getuid() != 0:
        unshare += ["--user", "--map-root-user"]
    os.execvpe(unshare[0], [*unshare, *command], {**os.environ, ENTERED: "1"})


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """`count` namespaces, 10.99.0.1 and on; the clients' address is 10.99.0.254."""

    def __init__(self, count):
        self.holders = {}
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "nodes", "type", "bridge")
        run("ip", "address", "add", "10.99.0.254/24", "dev", "nodes")
        run("ip", "link", "set", "nodes", "up")
        for node in range(1, count + 1):
            # what keeps the namespace while its node is down
            self.holders[node] = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE)
            self.holders[node].stdout.readline()
            pid = str(self.holders[node].pid)
            run("ip", "link", "add", f"node-{node}", "type", "veth", "peer", "name", "eth0", "netns", pid)
            run("ip", "link", "set", f"node-{node}", "master", "nodes", "up")
            self.at(node, "ip", "address", "add", f"{self.host(node)}/24", "dev", "eth0")
            self.at(node, "ip", "link", "set", "eth0", "up")
            self.at(node, "ip", "link", "set", "lo", "up")

    def host(self, node):
        return f"10.99.0.{node}"

    def inside(self, node, command):
        """The command line that runs `command` in the node's namespace, as the process that is started."""
        return ["nsenter", f"--net=/proc/{self.holders[node].pid}/ns/net", "--", *command]

    def at(self, node, *command):
        return run(*self.inside(node, command))

    def drop(self, source, target, share=1.0):
        """Of the packets that `source` sends to `target`, this share does not arrive."""
        some = [] if share >= 1 else ["-m", "statistic", "--mode", "random", "--probability", str(share)]
        self.at(target, "iptables", "-w", "-A", "INPUT", "-s", self.host(source), *some, "-j", "DROP")

    def heal(self):
        """All packets arrive."""
        for node in self.holders:
            self.at(node, "iptables", "-w", "-F", "INPUT")

    def close(self):
        for holder in self.holders.values():
            holder.kill()
            holder.wait()


class SmallDisk:
    """A file system in memory for one folder, which can be full."""

    ROOM = "4g"

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"size={self.ROOM}", "tmpfs", str(self.folder))

    def fill(self, left=64 * 1024):
        """No more than `left` bytes can be written."""
        usage = os.statvfs(self.folder)
        used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
        run("mount", "-o", f"remount,size={used + left}", str(self.folder))

    def heal(self):
        run("mount", "-o", f"remount,size={self.ROOM}", str(self.folder))

    def close(self):
        run("umount", str(self.folder))
