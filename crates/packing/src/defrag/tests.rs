use proptest::prelude::*;

use super::*;
use crate::node::Capacity;
use crate::request::ModelSet;

const CORES: u32 = 32;

fn site(gpus: u8) -> Site {
    let capacity = Capacity { cpu_milli: CORES * 1000, memory_mib: 1 << 17, gpus, model: None };
    Site { node: Node::empty(capacity), others: vec![10], is_open: true }
}

fn request(gpu: GpuRequest) -> Request {
    Request { cpu_milli: 1000, memory_mib: 1, gpu, models: ModelSet::ANY }
}

fn anywhere(sites: &[Site]) -> Welcome {
    vec![true; sites.len()].into()
}

fn tenant(site: usize, gpu: GpuRequest, may_go: Option<Welcome>) -> Tenant {
    Tenant { request: request(gpu), others: vec![1], site, may_go, budgets: Vec::new() }
}

fn newcomer(gpu: GpuRequest, may_go: &Welcome) -> Newcomer {
    Newcomer { request: request(gpu), others: vec![1], may_go: may_go.clone(), gang: None }
}

fn asked<'a>(sites: &'a [Site], tenants: &'a [Tenant], newcomers: &'a [Newcomer]) -> Defrag<'a> {
    Defrag {
        sites,
        tenants,
        newcomers,
        budgets: &[],
        models: 0,
        policy: Policy::LeastStranding,
        most_moves: 10,
    }
}

fn moves(proposal: &Proposal) -> Vec<(usize, usize, usize)> {
    proposal.moves.iter().map(|it| (it.tenant, it.from, it.to)).collect()
}

/// Two nodes of four GPUs, with three and one free; who waits wants four.
fn split(may_go: Option<Welcome>) -> (Vec<Site>, Vec<Tenant>) {
    let sites = vec![site(4), site(4)];
    let tenants = vec![
        tenant(0, GpuRequest::Whole(1), may_go),
        tenant(1, GpuRequest::Whole(1), None),
        tenant(1, GpuRequest::Whole(2), None),
    ];
    (sites, tenants)
}

#[test]
fn one_move_lets_a_large_pod_in() {
    let (sites, tenants) = split(Some(anywhere(&[site(4), site(4)])));
    let waits = [newcomer(GpuRequest::Whole(4), &anywhere(&sites))];
    let proposal = asked(&sites, &tenants, &waits).propose();
    assert_eq!(moves(&proposal), [(0, 0, 1)]);
    assert_eq!(proposal.moves[0].purpose, Purpose::Newcomer(0));
    assert_eq!(proposal.outcomes, [Outcome::FitsAfterMoves(0)]);
    assert_eq!((proposal.before.idle, proposal.after.idle), (4.0, 4.0));
    assert!(proposal.after.fragmented < proposal.before.fragmented);
    let large = proposal.shapes.iter().find(|it| it.request.gpu == GpuRequest::Whole(4));
    assert_eq!(large.map(|it| (it.fit_before, it.fit_after)), Some((0, 1)));
}

#[test]
fn who_stays_stays() {
    let with = |may_go, change: &dyn Fn(&mut Vec<Site>, &mut Vec<Tenant>)| {
        let (mut sites, mut tenants) = split(may_go);
        change(&mut sites, &mut tenants);
        let waits = [newcomer(GpuRequest::Whole(4), &anywhere(&sites))];
        let mut asked = asked(&sites, &tenants, &waits);
        asked.budgets = &[0];
        asked.propose()
    };
    let anywhere = || Some(anywhere(&[site(4), site(4)]));
    let nothing = |proposal: Proposal| {
        assert_eq!(proposal.outcomes, [Outcome::NoRoom]);
        assert!(proposal.moves.is_empty());
    };
    nothing(with(None, &|_, _| {}));
    // It may not go to the other node.
    nothing(with(Some(vec![true, false].into()), &|_, _| {}));
    nothing(with(anywhere(), &|_, tenants| tenants[0].budgets = vec![0]));
    nothing(with(anywhere(), &|sites, _| sites[1].is_open = false));
    // The other node has no more pods to give, or more on it than it has.
    nothing(with(anywhere(), &|sites, _| sites[1].others = vec![2]));
    let full = with(anywhere(), &|_, tenants| tenants.push(tenant(1, GpuRequest::Whole(2), None)));
    assert_eq!((full.overfull.as_slice(), full.moves.len()), ([1].as_slice(), 0));
    let proposal = with(anywhere(), &|sites, _| sites[0].others = vec![0]);
    assert_eq!(proposal.overfull, [0]);
}

#[test]
fn who_fits_needs_no_move_and_who_fits_nowhere_is_told() {
    let (sites, tenants) = split(Some(anywhere(&[site(4), site(4)])));
    let all = anywhere(&sites);
    let nobody: Welcome = vec![false; 2].into();
    let waits = [
        newcomer(GpuRequest::Whole(8), &all),
        newcomer(GpuRequest::Whole(1), &nobody),
        newcomer(GpuRequest::Whole(3), &all),
    ];
    let proposal = asked(&sites, &tenants, &waits).propose();
    assert_eq!(proposal.outcomes, [Outcome::Nowhere, Outcome::Nowhere, Outcome::Fits(0)]);
}

#[test]
fn cores_are_made_room_for_too() {
    let sites = vec![site(4), site(0)];
    let mut busy = tenant(0, GpuRequest::None, Some(anywhere(&sites)));
    busy.request.cpu_milli = CORES * 1000;
    let waits = [newcomer(GpuRequest::Whole(1), &anywhere(&sites))];
    let proposal = asked(&sites, &[busy], &waits).propose();
    assert_eq!(moves(&proposal), [(0, 0, 1)]);
    assert_eq!(proposal.outcomes, [Outcome::FitsAfterMoves(0)]);
}

#[test]
fn a_gang_starts_whole_or_not_at_all() {
    let sites = vec![site(4), site(4)];
    let all = anywhere(&sites);
    let tenants = vec![tenant(0, GpuRequest::Whole(2), Some(all.clone()))];
    let gang = |count| {
        let member = Newcomer { gang: Some(7), ..newcomer(GpuRequest::Whole(2), &all) };
        let proposal = asked(&sites, &tenants, &vec![member; count]).propose();
        proposal.outcomes
    };
    assert!(gang(3).iter().all(|it| matches!(it, Outcome::Fits(_))));
    assert_eq!(gang(4), [Outcome::NoRoom; 4]);
}

#[test]
fn room_is_made_for_usual_shapes() {
    // Three nodes each with one GPU in use and a workload half of which wants four.
    let mut sites = vec![site(4), site(4), site(4)];
    sites.push(site(8));
    let all = anywhere(&sites);
    let mut tenants: Vec<Tenant> =
        (0..3).map(|at| tenant(at, GpuRequest::Whole(1), Some(all.clone()))).collect();
    tenants.extend((0..2).map(|_| tenant(3, GpuRequest::Whole(4), None)));
    let proposal = asked(&sites, &tenants, &[]).propose();
    assert_eq!(proposal.moves.len(), 2, "{proposal:?}");
    assert!(proposal.moves.iter().all(|it| matches!(it.purpose, Purpose::Shape(_))));
    let large = proposal.shapes.iter().find(|it| it.request.gpu == GpuRequest::Whole(4));
    assert_eq!(large.map(|it| (it.fit_before, it.fit_after)), Some((0, 2)));
    let mut few = asked(&sites, &tenants, &[]);
    few.most_moves = 1;
    assert!(few.propose().moves.len() <= 1);
}

#[test]
fn preferred_nodes_come_in_the_order_of_the_policy() {
    // Two in use, one empty: who fills a node comes first, and an empty one last.
    let sites = vec![site(4), site(4), site(4)];
    let tenants =
        vec![tenant(1, GpuRequest::Whole(3), None), tenant(2, GpuRequest::Whole(2), None)];
    let workload = [
        newcomer(GpuRequest::Whole(1), &anywhere(&sites)),
        newcomer(GpuRequest::Whole(4), &anywhere(&sites)),
    ];
    let asked = asked(&sites, &tenants, &workload);
    assert_eq!(asked.prefer(0, 1).map(|it| it.sites), Some(vec![1, 2]));
    assert_eq!(asked.prefer(0, 3).map(|it| it.sites), Some(vec![1, 2, 0]));
    assert_eq!(asked.prefer(1, 2).map(|it| it.sites), Some(vec![0]));
    assert_eq!(asked.prefer(2, 1), None);
    // Of those that do not fit, nobody says that they do.
    let preferred = asked.prefer(1, 2).unwrap();
    assert_eq!((preferred.placed, preferred.idle), (1, 3.0));
}

#[test]
fn nodes_have_what_runs_on_them() {
    let (mut sites, mut tenants) = split(None);
    sites.push(site(1));
    tenants.push(tenant(2, GpuRequest::Whole(2), None));
    let free = |sites: &[Site]| -> Vec<u8> {
        asked(sites, &tenants, &[]).nodes().iter().map(Node::free_gpus).collect()
    };
    assert_eq!(free(&sites), [3, 1]);
    sites[0].is_open = false;
    assert_eq!(free(&sites), [1]);
}

#[test]
fn nothing_gives_nothing() {
    let proposal = asked(&[], &[], &[]).propose();
    assert!(proposal.moves.is_empty() && proposal.shapes.is_empty());
    assert_eq!(proposal.before, IdleGpus { idle: 0.0, fragmented: 0.0 });
}

fn gpu() -> impl Strategy<Value = GpuRequest> {
    prop_oneof![
        Just(GpuRequest::None),
        (1u16..5).prop_map(|fifths| GpuRequest::Share(fifths * 200)),
        (1u8..=4).prop_map(GpuRequest::Whole),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn moves_work_one_after_the_other(
        sizes in prop::collection::vec(0u8..=6, 1..6),
        running in prop::collection::vec((gpu(), 0usize..6, any::<bool>(), 0u8..64, 1u32..12), 0..20),
        waiting in prop::collection::vec((gpu(), 0u8..64, prop::option::of(0usize..2)), 0..6),
        budget in 0u32..4,
        most_moves in 0usize..6,
    ) {
        let sites: Vec<Site> = sizes.iter().map(|gpus| site(*gpus)).collect();
        let welcome = |bits: u8| -> Welcome { (0..sites.len()).map(|at| bits >> at & 1 == 1).collect() };
        let mut room: Vec<Node> = sites.iter().map(|it| it.node).collect();
        let mut tenants = Vec::new();
        for (gpu, at, moves, bits, cores) in running {
            let at = at % sites.len();
            let request = Request { cpu_milli: cores * 1000, ..request(gpu) };
            let devices = room[at].tightest(gpu).filter(|_| room[at].fits(&request));
            let Some(devices) = devices else { continue };
            room[at] = room[at].with(&request, devices).expect("it fits");
            let may_go = moves.then(|| welcome(bits));
            tenants.push(Tenant { request, others: vec![1], site: at, may_go, budgets: vec![0] });
        }
        let mut newcomers: Vec<Newcomer> = waiting
            .into_iter()
            .map(|(gpu, bits, gang)| Newcomer { gang, ..newcomer(gpu, &welcome(bits)) })
            .collect();
        newcomers.sort_by_key(|it| it.gang);
        let asked = Defrag { budgets: &[budget], most_moves, ..asked(&sites, &tenants, &newcomers) };
        let proposal = asked.propose();
        prop_assert_eq!(&proposal, &asked.propose());
        prop_assert!(proposal.moves.len() <= most_moves.min(budget as usize));
        prop_assert!((proposal.before.idle - proposal.after.idle).abs() < 1e-9 || !proposal.overfull.is_empty());

        // By counts of GPUs alone, as Kubernetes counts: every move has room when its turn comes.
        let mut others: Vec<i64> = vec![10; sites.len()];
        let mut cores: Vec<i64> = vec![i64::from(CORES); sites.len()];
        let mut gpus: Vec<i64> = sizes.iter().map(|it| i64::from(*it) * 1000).collect();
        let take = |others: &mut Vec<i64>, cores: &mut Vec<i64>, gpus: &mut Vec<i64>, at: usize, request: &Request, sign: i64| {
            others[at] -= sign;
            cores[at] -= sign * i64::from(request.cpu_milli / 1000);
            gpus[at] -= sign * i64::from(request.gpu.milli());
        };
        for tenant in &tenants {
            take(&mut others, &mut cores, &mut gpus, tenant.site, &tenant.request, 1);
        }
        let mut moved = std::collections::BTreeSet::new();
        for step in &proposal.moves {
            let tenant = &tenants[step.tenant];
            prop_assert!(moved.insert(step.tenant), "nobody moves twice");
            prop_assert_eq!(tenant.site, step.from);
            prop_assert!(step.to != step.from && tenant.may_go.as_ref().is_some_and(|it| it[step.to]));
            take(&mut others, &mut cores, &mut gpus, step.from, &tenant.request, -1);
            take(&mut others, &mut cores, &mut gpus, step.to, &tenant.request, 1);
            prop_assert!(others[step.to] >= 0 && cores[step.to] >= 0 && gpus[step.to] >= 0);
        }
        let mut started = std::collections::BTreeMap::new();
        for (newcomer, outcome) in newcomers.iter().zip(&proposal.outcomes) {
            if let Outcome::Fits(at) | Outcome::FitsAfterMoves(at) = outcome {
                prop_assert!(newcomer.may_go[*at]);
                take(&mut others, &mut cores, &mut gpus, *at, &newcomer.request, 1);
                prop_assert!(others[*at] >= 0 && cores[*at] >= 0 && gpus[*at] >= 0);
            }
            if let Some(gang) = newcomer.gang {
                let is_in = matches!(outcome, Outcome::Fits(_) | Outcome::FitsAfterMoves(_));
                prop_assert_eq!(*started.entry(gang).or_insert(is_in), is_in, "half a gang");
            }
        }
    }
}
