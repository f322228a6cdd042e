//! How full the log's disk is.

use std::{io, path::Path, sync::Arc};

use super::Health;

/// Tells how many percent are used of the file system that holds a path.
pub type Probe = Arc<dyn Fn(&Path) -> io::Result<u8> + Send + Sync>;

/// When to warn and when to refuse, and how to find out.
#[derive(Clone)]
pub struct DiskGuard {
    /// Percent of the space that an ordinary user can have, as `df` counts it.
    pub warn_percent: u8,
    pub refuse_percent: u8,
    pub probe: Probe,
}

impl Default for DiskGuard {
    fn default() -> Self {
        Self {
            warn_percent: 85,
            refuse_percent: 95,
            probe: Arc::new(used_percent),
        }
    }
}

impl DiskGuard {
    /// What the disk under `path` allows, and how full it is.
    pub fn look(&self, path: &Path) -> io::Result<(Health, u8)> {
        let used = (self.probe)(path)?;
        let health = match used {
            used if used >= self.refuse_percent => Health::DiskFull,
            used if used >= self.warn_percent => Health::DiskLow,
            _ => Health::Writable,
        };
        Ok((health, used))
    }
}

/// As `df` counts: used of (used and available), rounded up; what is reserved for root counts as neither.
fn used_percent(path: &Path) -> io::Result<u8> {
    let disk = rustix::fs::statvfs(path)?;
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    let all = used + disk.f_bavail;
    let percent = if all == 0 { 0 } else { (used * 100).div_ceil(all) };
    Ok(u8::try_from(percent).unwrap_or(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_of_a_directory_has_a_fill_level() {
        let directory = tempfile::tempdir().unwrap();
        assert!((1..=100).contains(&used_percent(directory.path()).unwrap()));
        used_percent(&directory.path().join("absent")).unwrap_err();
    }

    #[test]
    fn levels_begin_at_their_percentages() {
        for (used, health) in [
            (84, Health::Writable),
            (85, Health::DiskLow),
            (94, Health::DiskLow),
            (95, Health::DiskFull),
            (100, Health::DiskFull),
        ] {
            let guard = DiskGuard {
                probe: Arc::new(move |_| Ok(used)),
                ..DiskGuard::default()
            };
            assert_eq!(guard.look(Path::new("/")).unwrap(), (health, used));
        }
    }
}
