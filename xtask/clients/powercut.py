"""powercut.py up DIR MB | cut DIR | back DIR | down DIR: a real power cut for real processes (root, Linux, loop devices).

DIR is an ext4 file system of its own on a loop device. `cut` shuts it down without writing its journal or data
(FS_IOC_SHUTDOWN, no log flush): whatever was not synced is gone and every later write fails. After the processes that
used it were killed, `back` mounts what a disk would have kept.
"""
import fcntl, os, struct, subprocess, sys, time

what, where = sys.argv[1], sys.argv[2]
image = where + ".img"


def run(*words):
    return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def must(*words):
    done = run(*words)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr.strip()}")


if what == "up":
    os.makedirs(where, exist_ok=True)
    with open(image, "wb") as f:
        f.truncate(int(sys.argv[3]) << 20)
    must("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
    must("mount", "-o", "loop", image, where)
    os.rmdir(os.path.join(where, "lost+found"))
elif what == "cut":
    handle = os.open(where, os.O_RDONLY)
    fcntl.ioctl(handle, 0x8004587D, struct.pack("I", 2))  # FS_IOC_SHUTDOWN, FS_SHUTDOWN_FLAGS_NOLOGFLUSH
elif what == "back":
    for _ in range(100):
        if run("umount", where).returncode == 0:
            break
        time.sleep(0.1)
    must("mount", "-o", "loop", image, where)
elif what == "down":
    if run("umount", where).returncode:
        run("umount", "-l", where)
    os.remove(image)
    os.rmdir(where)
