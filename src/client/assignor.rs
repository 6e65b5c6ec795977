//! Who reads what: the leader of a classic group shares the partitions out among its members.

use std::collections::{BTreeMap, BTreeSet};

use super::admin::Partition;
use super::consumer_protocol::Subscription;

/// The assignors that every Kafka client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Ranges of each topic's partitions to the members in order.
    Range,
    /// One partition after the other to one member after the other.
    RoundRobin,
    /// Balanced, and members keep what they have (KIP-429): what moves is first given up, then given to
    /// another in a second rebalance, so that the rest is read on meanwhile.
    CooperativeSticky,
}

/// A member that wants partitions.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub subscription: Subscription,
}

/// Partitions by member id. Every member is there.
pub type Assignments = BTreeMap<String, BTreeSet<Partition>>;

impl Strategy {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Range => "range",
            Strategy::RoundRobin => "roundrobin",
            Strategy::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// From the name on the wire, or the name of Kafka's class.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().rsplit('.').next().unwrap_or_default() {
            "range" | "RangeAssignor" => Some(Strategy::Range),
            "roundrobin" | "RoundRobinAssignor" => Some(Strategy::RoundRobin),
            "cooperative-sticky" | "CooperativeStickyAssignor" => Some(Strategy::CooperativeSticky),
            _ => None,
        }
    }

    /// Shares out the partitions of topics, of which `counts` has the numbers; topics without one get
    /// nobody.
    pub fn assign(self, candidates: &[Candidate], counts: &BTreeMap<String, i32>) -> Assignments {
        let mut candidates = candidates.iter().collect::<Vec<_>>();
        // Kafka's order: static members first, by their names, so that restarts change nothing.
        candidates.sort_by_key(|candidate| {
            let instance = candidate.instance_id.as_deref();
            (instance.is_none(), instance.unwrap_or(&candidate.member_id))
        });
        let mut subscribers = BTreeMap::<&str, Vec<usize>>::new();
        for (index, candidate) in candidates.iter().enumerate() {
            for topic in candidate.subscription.topics.iter().collect::<BTreeSet<_>>() {
                if counts.contains_key(topic) {
                    subscribers.entry(topic).or_default().push(index);
                }
            }
        }
        let given = match self {
            Strategy::Range => range(candidates.len(), &subscribers, counts),
            Strategy::RoundRobin => round_robin(candidates.len(), &subscribers, counts),
            Strategy::CooperativeSticky => sticky(&candidates, &subscribers, counts),
        };
        let named = candidates.iter().zip(given);
        named.map(|(candidate, partitions)| (candidate.member_id.clone(), partitions)).collect()
    }
}

type Subscribers<'a> = BTreeMap<&'a str, Vec<usize>>;
type Given = Vec<BTreeSet<Partition>>;

fn count_of(counts: &BTreeMap<String, i32>, topic: &str) -> i32 {
    counts.get(topic).copied().unwrap_or(0)
}

fn range(members: usize, subscribers: &Subscribers<'_>, counts: &BTreeMap<String, i32>) -> Given {
    let mut given = vec![BTreeSet::new(); members];
    for (topic, subscribers) in subscribers {
        let count = count_of(counts, topic) as usize;
        let (each, extra) = (count / subscribers.len(), count % subscribers.len());
        let mut next = 0;
        for (place, member) in subscribers.iter().enumerate() {
            let end = next + each + usize::from(place < extra);
            given[*member].extend((next..end).map(|index| ((*topic).to_owned(), index as i32)));
            next = end;
        }
    }
    given
}

fn round_robin(members: usize, subscribers: &Subscribers<'_>, counts: &BTreeMap<String, i32>) -> Given {
    let mut given = vec![BTreeSet::new(); members];
    let mut turn = 0;
    for (topic, subscribers) in subscribers {
        for index in 0..count_of(counts, topic) {
            while !subscribers.contains(&(turn % members)) {
                turn += 1;
            }
            given[turn % members].insert(((*topic).to_owned(), index));
            turn += 1;
        }
    }
    given
}

fn sticky(candidates: &[&Candidate], subscribers: &Subscribers<'_>, counts: &BTreeMap<String, i32>) -> Given {
    // Who says to hold a partition, with the generation in which it was given.
    let mut claims = BTreeMap::<(&str, i32), Vec<(i32, usize)>>::new();
    for (member, candidate) in candidates.iter().enumerate() {
        for (topic, index) in &candidate.subscription.owned {
            let is_real = (0..count_of(counts, topic)).contains(index)
                && subscribers.get(topic.as_str()).is_some_and(|members| members.contains(&member));
            if is_real {
                let claim = (candidate.subscription.generation, member);
                claims.entry((topic, *index)).or_default().push(claim);
            }
        }
    }
    let mut held = vec![BTreeMap::<&str, BTreeSet<i32>>::new(); candidates.len()];
    let mut loads = vec![0usize; candidates.len()];
    let mut free = Vec::new();
    for topic in subscribers.keys() {
        for index in 0..count_of(counts, topic) {
            let claims = claims.get(&(*topic, index)).map(Vec::as_slice).unwrap_or_default();
            let newest = claims.iter().map(|(generation, _)| *generation).max();
            let mut holders = claims.iter().filter(|(generation, _)| Some(*generation) == newest);
            // Two of the same generation cannot both be right.
            match (holders.next(), holders.next()) {
                (Some((_, member)), None) => {
                    held[*member].entry(topic).or_default().insert(index);
                    loads[*member] += 1;
                }
                _ => free.push((*topic, index)),
            }
        }
    }
    let least = |loads: &[usize], topic: &str| {
        let members = subscribers.get(topic).map(Vec::as_slice).unwrap_or_default();
        members.iter().copied().min_by_key(|member| loads[*member])
    };
    for (topic, index) in free {
        if let Some(member) = least(&loads, topic) {
            held[member].entry(topic).or_default().insert(index);
            loads[member] += 1;
        }
    }
    // Each move makes the loads more even, so this ends.
    loop {
        let mut by_load = (0..candidates.len()).collect::<Vec<_>>();
        by_load.sort_by_key(|member| std::cmp::Reverse(loads[*member]));
        let found = by_load.into_iter().find_map(|from| {
            held[from].keys().copied().find_map(|topic| {
                let to = least(&loads, topic)?;
                (loads[from] >= loads[to] + 2).then_some((from, to, topic))
            })
        });
        let Some((from, to, topic)) = found else { break };
        let Some(indexes) = held[from].get_mut(topic) else { break };
        let Some(index) = indexes.pop_last() else { break };
        if indexes.is_empty() {
            held[from].remove(topic);
        }
        held[to].entry(topic).or_default().insert(index);
        loads[from] -= 1;
        loads[to] += 1;
    }
    let mut given = vec![BTreeSet::new(); candidates.len()];
    for (member, topics) in held.into_iter().enumerate() {
        for (topic, indexes) in topics {
            // What another still holds is given once it has let go of it.
            let is_free = |index: &i32| {
                let claims = claims.get(&(topic, *index)).map(Vec::as_slice).unwrap_or_default();
                claims.iter().all(|(_, holder)| *holder == member)
            };
            given[member].extend(indexes.into_iter().filter(is_free).map(|index| (topic.to_owned(), index)));
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, prop_assert, prop_assert_eq, prop_oneof, proptest};

    fn member(id: &str, topics: &[&str]) -> Candidate {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Candidate {
            member_id: id.to_owned(),
            instance_id: None,
            subscription: Subscription { topics, owned: BTreeSet::new(), generation: -1 },
        }
    }

    fn counts(list: &[(&str, i32)]) -> BTreeMap<String, i32> {
        list.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect()
    }

    fn shown(assignments: &Assignments) -> Vec<String> {
        let show = |partitions: &BTreeSet<Partition>| {
            let partitions = partitions.iter().map(|(topic, index)| format!("{topic}{index}"));
            partitions.collect::<Vec<_>>().join(" ")
        };
        assignments.iter().map(|(member, partitions)| format!("{member}: {}", show(partitions))).collect()
    }

    /// The examples in the documentation of Kafka's assignors.
    #[test]
    fn range_and_round_robin_are_kafkas() {
        let two = [member("C1", &["t", "u"]), member("C0", &["t", "u"])];
        let sizes = counts(&[("t", 3), ("u", 3)]);
        assert_eq!(shown(&Strategy::Range.assign(&two, &sizes)), ["C0: t0 t1 u0 u1", "C1: t2 u2"]);
        assert_eq!(shown(&Strategy::RoundRobin.assign(&two, &sizes)), ["C0: t0 t2 u1", "C1: t1 u0 u2"]);
        let three = [member("C0", &["t"]), member("C1", &["t", "u"]), member("C2", &["t", "u", "v"])];
        let sizes = counts(&[("t", 1), ("u", 2), ("v", 3)]);
        assert_eq!(
            shown(&Strategy::RoundRobin.assign(&three, &sizes)),
            ["C0: t0", "C1: u0", "C2: u1 v0 v1 v2"]
        );
        // Static members come first, by their names.
        let mut named = two.clone();
        named[0].instance_id = Some("z".to_owned());
        let sizes = counts(&[("t", 1)]);
        assert_eq!(shown(&Strategy::Range.assign(&named, &sizes)), ["C0: ", "C1: t0"]);
    }

    #[test]
    fn sticky_members_keep_what_they_have_and_what_moves_is_given_up_first() {
        let sizes = counts(&[("t", 4)]);
        let mut first = member("a", &["t"]);
        first.subscription.owned = (0..4).map(|index| ("t".to_owned(), index)).collect();
        first.subscription.generation = 3;
        let newcomer = member("b", &["t"]);
        let round = Strategy::CooperativeSticky.assign(&[first.clone(), newcomer.clone()], &sizes);
        assert_eq!(shown(&round), ["a: t0 t1", "b: "]);
        first.subscription.owned = round["a"].clone();
        let round = Strategy::CooperativeSticky.assign(&[first.clone(), newcomer.clone()], &sizes);
        assert_eq!(shown(&round), ["a: t0 t1", "b: t2 t3"]);
        // A claim of an old generation loses, and what it claims waits for a round.
        let mut old = newcomer;
        old.subscription.owned = BTreeSet::from([("t".to_owned(), 0), ("t".to_owned(), 2)]);
        old.subscription.generation = 2;
        let round = Strategy::CooperativeSticky.assign(&[first, old], &sizes);
        assert_eq!(shown(&round), ["a: t1", "b: t2 t3"]);
    }

    proptest! {
        /// Rebalanced until nothing moves: every partition of a topic with a subscriber has exactly one
        /// owner, who is subscribed, and in no round do two members hold the same.
        #[test]
        fn every_partition_has_one_owner(
            strategy in prop_oneof![
                Just(Strategy::Range), Just(Strategy::RoundRobin), Just(Strategy::CooperativeSticky),
            ],
            sizes in proptest::collection::vec(0..6i32, 1..4),
            interests in proptest::collection::vec((1..8u8, 0..20u8, -1..3i32), 1..6),
        ) {
            let counts = sizes.iter().enumerate().map(|(index, size)| (format!("t{index}"), *size));
            let counts = counts.collect::<BTreeMap<_, _>>();
            let mut members = interests.iter().enumerate().map(|(id, (interest, owned, generation))| {
                let topics = (0..3).filter(|bit| interest & (1 << bit) != 0).map(|bit| format!("t{bit}"));
                let owned = (0..5).filter(|bit| owned & (1 << bit) != 0);
                let subscription = Subscription {
                    topics: topics.collect(),
                    owned: owned.map(|bit| (format!("t{}", bit % 3), bit)).collect(),
                    generation: *generation,
                };
                Candidate { member_id: format!("m{id}"), instance_id: None, subscription }
            }).collect::<Vec<_>>();
            let mut last = Assignments::new();
            for generation in 3..20 {
                let round = strategy.assign(&members, &counts);
                let given = round.values().flatten().collect::<Vec<_>>();
                let distinct = given.iter().collect::<BTreeSet<_>>();
                prop_assert_eq!(given.len(), distinct.len());
                for member in &mut members {
                    member.subscription.owned = round[&member.member_id].clone();
                    member.subscription.generation = generation;
                }
                let settled = round == last;
                last = round;
                if settled {
                    break;
                }
            }
            for (topic, count) in &counts {
                let readers = members.iter().filter(|member| member.subscription.topics.contains(topic));
                let readers = readers.map(|member| &member.member_id).collect::<BTreeSet<_>>();
                let owners = last.iter().flat_map(|(member, partitions)| {
                    partitions.iter().filter(|(name, _)| name == topic).map(move |_| member)
                }).collect::<Vec<_>>();
                prop_assert!(owners.iter().all(|owner| readers.contains(*owner)));
                prop_assert_eq!(owners.len() as i32, if readers.is_empty() { 0 } else { *count });
            }
        }
    }
}
