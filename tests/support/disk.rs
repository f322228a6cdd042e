//! Disks that are full or read-only, made with a mount namespace of the server's own: nothing outside it is touched, and
//! nothing is left mounted when it ends. Works for root, and for others where user namespaces are allowed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::TestServer;
use super::server::through;

/// The data directory becomes a file system of its own; then orders come line by line. The server's output goes to `$1`.
const SMALL_DISK: &str = r#"
data=$1 seed=$2 copy=$3 out=$4 size=$5
shift 5
server=
cp -a "$data" "$seed"
mount -t tmpfs -o "size=$size" none "$data"
cp -a "$seed/." "$data"
echo ready
while read -r order; do
  case $order in
    start) "$@" >>"$out" 2>&1 </dev/null & server=$! ;;
    stop) kill -TERM "$server"; wait "$server" || true ;;
    fill) cat /dev/zero >"$data/filler" 2>/dev/null || true ;;
    free) rm "$data/filler" ;;
    copy) cp -a "$data" "$copy" ;;
  esac
  echo "$order"
done
kill -KILL "$server" 2>/dev/null || true
"#;

const READ_ONLY: &str = r#"
data=$1
shift
mount --bind "$data" "$data"
mount -o remount,bind,ro "$data"
exec "$@"
"#;

/// A server whose data directory is a small disk. It and the disk end with this value.
pub struct SmallDisk {
    shell: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl SmallDisk {
    /// Puts what `init` made onto a disk of so many MiB. Nothing serves yet: order `start`.
    pub fn around(server: &TestServer, mib: u32) -> Self {
        let mut command = in_namespace(SMALL_DISK, &server.command("serve"), |shell| {
            shell
                .arg(server.data())
                .arg(server.path("seed"))
                .arg(server.path("copied"))
                .arg(server.path("out/stderr"))
                .arg(format!("{mib}m"));
        });
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().unwrap();
        let (orders, answers) = (shell.stdin.take(), BufReader::new(shell.stdout.take().unwrap()));
        let mut disk = Self { shell, orders, answers };
        disk.expect("ready");
        disk
    }

    /// `start` or `stop` the server, `fill` the disk to the last byte, `free` it again, `copy` it to `copied`.
    pub fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("the shell runs");
        writeln!(orders, "{order}").unwrap();
        self.expect(order);
    }

    fn expect(&mut self, answer: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), answer, "the shell of the small disk ended");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The end of its orders is the end of the shell, which kills the server first.
        drop(self.orders.take());
        let _ = self.shell.wait();
    }
}

/// `command`, for which the data directory is on a read-only file system.
pub fn read_only(server: &TestServer, command: &Command) -> Command {
    in_namespace(READ_ONLY, command, |shell| {
        shell.arg(server.data());
    })
}

/// `sh -c script sh …arguments command…` in a mount namespace of its own.
fn in_namespace(script: &str, command: &Command, arguments: impl FnOnce(&mut Command)) -> Command {
    let script = format!("set -eu\n{script}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]);
    arguments(&mut shell);
    let own: Vec<String> = shell
        .get_args()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut words: Vec<&str> = namespace();
    words.push("sh");
    words.extend(own.iter().map(String::as_str));
    through("unshare", &words, command)
}

/// How a mount namespace can be had here.
fn namespace() -> Vec<&'static str> {
    let own = ["--mount", "--propagation", "private"];
    let with_user = ["--user", "--map-root-user", "--mount", "--propagation", "private"];
    for words in [own.as_slice(), &with_user] {
        let tried = Command::new("unshare")
            .args(words)
            .args(["mount", "-t", "tmpfs", "none", "/mnt"])
            .stderr(Stdio::null())
            .status();
        if tried.is_ok_and(|status| status.success()) {
            return words.to_vec();
        }
    }
    panic!("no mount namespace can be made here: run these tests as root, or allow unprivileged user namespaces");
}
