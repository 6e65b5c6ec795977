//! Under which leadership a log is written to: the fence that nothing old passes.
//!
//! It is part of what the writer lock guards. A request to append, and one to cut, names the leader epoch under which
//! it was checked, and is refused when that is not the log's any more. So everything that is in the log
//! when an epoch begins is of earlier epochs, and nothing of those comes later.

use crate::types::LeaderEpoch;

/// Who writes to a log: its producers, as this node leads, or its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    epoch: LeaderEpoch,
    role: Role,
    /// The leader writes nothing for the moment: what comes queues.
    is_suspended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Nobody has said yet, or it is over.
    Nobody,
    Leader,
    Follower,
}

/// A leadership that is older than what the log knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("leader epoch {asked} cannot begin: the log is in epoch {known}")]
pub struct EpochBack {
    pub asked: LeaderEpoch,
    pub known: LeaderEpoch,
}

/// What was checked under a leadership that has ended, or has not begun here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the leadership of epoch {epoch}, under which this was checked, has ended")]
pub struct LeadershipEnded {
    pub epoch: LeaderEpoch,
}

impl Default for Leadership {
    fn default() -> Self {
        Self { epoch: LeaderEpoch::NONE, role: Role::Nobody, is_suspended: false }
    }
}

impl Leadership {
    /// This node leads in `epoch`.
    pub fn lead(&mut self, epoch: LeaderEpoch) -> Result<(), EpochBack> {
        self.begin(epoch, Role::Leader)
    }

    /// This node follows the leader of `epoch`.
    pub fn follow(&mut self, epoch: LeaderEpoch) -> Result<(), EpochBack> {
        self.begin(epoch, Role::Follower)
    }

    /// Nobody writes any more, until a later epoch begins (or this one does again).
    pub fn end(&mut self) {
        self.role = Role::Nobody;
        self.is_suspended = false;
    }

    /// The leader of `epoch` writes nothing until it resumes, or its leadership ends.
    pub fn suspend(&mut self, epoch: LeaderEpoch) -> Result<(), LeadershipEnded> {
        self.check_leads(epoch)?;
        self.is_suspended = true;
        Ok(())
    }

    pub fn resume(&mut self) {
        self.is_suspended = false;
    }

    pub fn is_suspended(&self) -> bool {
        self.is_suspended
    }

    fn begin(&mut self, epoch: LeaderEpoch, role: Role) -> Result<(), EpochBack> {
        // One epoch has one leader, so nobody changes sides within it.
        let changes_sides = epoch == self.epoch && self.role != Role::Nobody && self.role != role;
        if epoch < self.epoch || changes_sides {
            return Err(EpochBack { asked: epoch, known: self.epoch });
        }
        *self = Self { epoch, role, is_suspended: false };
        Ok(())
    }

    /// May what was checked under this node's leadership of `epoch` be written?
    pub fn check_leads(&self, epoch: LeaderEpoch) -> Result<(), LeadershipEnded> {
        self.check(epoch, Role::Leader)
    }

    /// May what was fetched from the leader of `epoch` be written, or what it asks for be cut?
    pub fn check_follows(&self, epoch: LeaderEpoch) -> Result<(), LeadershipEnded> {
        self.check(epoch, Role::Follower)
    }

    fn check(&self, epoch: LeaderEpoch, role: Role) -> Result<(), LeadershipEnded> {
        if (epoch, role) == (self.epoch, self.role) { Ok(()) } else { Err(LeadershipEnded { epoch }) }
    }

    /// The newest epoch that has begun; `NONE` before the first.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_leadership_writes_and_epochs_do_not_go_down() {
        let (one, two) = (LeaderEpoch(1), LeaderEpoch(2));
        let mut leadership = Leadership::default();
        assert!(leadership.check_leads(LeaderEpoch::NONE).is_err());
        leadership.lead(one).unwrap();
        assert_eq!(leadership.check_leads(one), Ok(()));
        assert_eq!(leadership.check_follows(one), Err(LeadershipEnded { epoch: one }));
        assert_eq!(leadership.follow(one), Err(EpochBack { asked: one, known: one }));
        leadership.follow(two).unwrap();
        assert!(leadership.check_leads(one).is_err() && leadership.check_leads(two).is_err());
        assert_eq!(leadership.lead(one), Err(EpochBack { asked: one, known: two }));
        assert_eq!(leadership.check_follows(two), Ok(()));
        leadership.end();
        assert!(leadership.check_follows(two).is_err() && leadership.lead(one).is_err());
    }
}
