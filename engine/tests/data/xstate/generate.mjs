// Makes random statecharts, runs them in XState 5.33.3, and prints a case a line with what it saw.
//
//   cd /tmp/x && npm install xstate@5.33.3
//   node generate.mjs /tmp/x 400 1 | gzip -9 > statecharts-2.jsonl.gz
//
// arguments: the folder with node_modules, how many cases, the first seed.

import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [folder, count, first] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
walkRegionsInDocumentOrder(join(folder, 'node_modules/xstate/dist'));
const x = createRequire(join(folder, 'package.json'))('xstate');

// XState walks regions in the order in which they were entered, PLED in document order (TEMPLATE
// R3). The one line in which that is decided is changed, so that everything else can be compared.
function walkRegionsInDocumentOrder(dist) {
  const before = 'const nextStateNodes = [...mutStateNodeSet];';
  const after = 'const nextStateNodes = [...mutStateNodeSet].sort((a, b) => a.order - b.order);';
  let found = 0;
  for (const name of readdirSync(dist).filter((name) => /^raise-.*\.cjs\.js$/.test(name))) {
    const source = readFileSync(join(dist, name), 'utf8');
    if (source.includes(before)) writeFileSync(join(dist, name), source.replace(before, after));
    if (source.includes(before) || source.includes(after)) found += 1;
  }
  if (found === 0) throw new Error('this XState is another one than expected');
}

// ---- chance

function random(seed) {
  const next = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const below = (n) => Math.floor(next() * n);
  return { below, chance: (p) => next() < p, pick: (list) => list[below(list.length)] };
}

// ---- charts

const EVENTS = ['E0', 'E1', 'E2', 'a.b', 'a.b.c'];
const DESCRIPTORS = ['E0', 'E1', 'E2', 'a.b', 'a.b.c', 'a.*', 'a.b.*', '*'];
const N = { var: 'context.n' };
const K = { var: ['event.data.k', 0] };

function chart(r, seed) {
  const all = [];
  const ids = { state: 0, site: 0, invoke: 0, timer: 0 };
  const root = { id: `x${seed}`, context: { n: r.below(5), m: r.below(3), fuel: 0, got: null } };
  root.delays = { soon: 10 + 5 * r.below(3), later: { '+': [20, { '*': [5, N] }] } };
  grow(root, 0);
  for (const place of all) dress(place);
  if (r.chance(0.5)) root.on = transitionsOn(root, 0.3);
  root.entry = [{ type: 'assign', params: { m: { var: ['event.data.m', 1] } } }];
  return root;

  function grow(node, depth) {
    const parallel = depth > 0 ? r.chance(0.4) : r.chance(0.25);
    if (parallel) node.type = 'parallel';
    node.states = {};
    const children = 2 + r.below(parallel ? 2 : 3);
    for (let i = 0; i < children; i += 1) {
      const id = `s${(ids.state += 1)}`;
      const child = { id };
      node.states[id] = child;
      all.push({ node: child, parent: node, depth: depth + 1 });
      const nests = parallel ? r.chance(0.85) : r.chance(0.45);
      if (depth < 3 && nests && ids.state < 12) grow(child, depth + 1);
      else if (!parallel && i > 0 && r.chance(0.45)) child.type = 'final';
    }
    const keys = Object.keys(node.states);
    if (!parallel) {
      const target = r.pick(keys.filter((key) => node.states[key].type !== 'final'));
      node.initial = r.chance(0.3) ? { target, actions: [note('initial')] } : target;
    }
    if (depth > 0 && r.chance(0.5)) {
      const id = `h${(ids.state += 1)}`;
      node.states[id] = { id, type: 'history', history: r.pick(['shallow', 'deep']) };
      if (r.chance(0.4)) node.states[id].target = `#${r.pick(keys)}`;
      all.push({ node: node.states[id], parent: node, depth: depth + 1 });
    }
  }

  function dress({ node }) {
    if (node.type === 'history') return;
    node.entry = [note('in'), ...actions(0.3)];
    node.exit = [note('out'), ...actions(0.2)];
    if (node.type === 'final') {
      if (r.chance(0.6)) node.output = { n: N, from: node.id };
      return;
    }
    node.on = transitionsOn(node, 0.45);
    if (r.chance(0.25)) node.always = [eventless()];
    if (r.chance(0.35)) node.after = after();
    if (node.states && r.chance(0.8)) {
      node.onDone = [{ ...transition(), actions: [note('done'), take('got')] }];
    }
    if (r.chance(0.3)) node.invoke = invocations();
  }

  function transitionsOn(node, p) {
    const on = {};
    for (const descriptor of DESCRIPTORS) {
      if (!r.chance(descriptor.includes('*') ? p / 3 : p)) continue;
      on[descriptor] = Array.from({ length: 1 + r.below(2) }, () => transition(0.5));
    }
    return on;
  }

  function transition(guarded = 0) {
    const made = {};
    if (r.chance(0.85)) made.target = target();
    if (made.target && r.chance(0.25)) made.reenter = true;
    if (r.chance(guarded)) made.guard = guard();
    made.actions = [note('go'), ...actions(0.3)];
    return made;
  }

  // Two regions of a parallel state, or anything.
  function target() {
    const parallel = all.filter(({ node }) => node.type === 'parallel').map(({ node }) => node);
    if (parallel.length > 0 && r.chance(0.15)) {
      const regions = Object.values(r.pick(parallel).states);
      const [a, b] = [r.below(regions.length), r.below(regions.length)];
      const real = [regions[a], regions[b]].every((region) => region.type !== 'history');
      if (a !== b && real) return [regions[a], regions[b]].map((region) => `#${within(region)}`);
    }
    const histories = all.filter(({ node }) => node.type === 'history');
    if (histories.length > 0 && r.chance(0.2)) return `#${r.pick(histories).node.id}`;
    return `#${r.pick(all).node.id}`;
  }

  function within(node) {
    const children = Object.values(node.states ?? {}).filter(({ type }) => type !== 'history');
    return children.length > 0 && r.chance(0.6) ? within(r.pick(children)) : node.id;
  }

  // Taken a few times only, or the chart would never rest.
  function eventless() {
    const until = { '<': [{ var: 'context.fuel' }, 2 + r.below(10)] };
    const made = { guard: r.chance(0.5) ? { and: [until, guard()] } : until };
    if (r.chance(0.8)) made.target = target();
    made.actions = [burn(), note('always')];
    return made;
  }

  function after() {
    const timers = {};
    const delays = [10, 15, 20, 25].filter(() => r.chance(0.35));
    for (const delay of delays) timers[delay] = [transition(0.3)];
    if (r.chance(0.3)) timers.soon = [transition(0.3)];
    if (r.chance(0.3)) timers.later = [transition(0.3)];
    return timers;
  }

  function invocations() {
    return Array.from({ length: 1 + r.below(2) }, () => ({
      id: `i${(ids.invoke += 1)}`,
      src: 'work',
      input: { n: N, k: K },
      onDone: [{ ...transition(0.4), actions: [note('ok'), take('got')] }],
      onError: [{ ...transition(), actions: [note('failed'), take('got')] }],
    }));
  }

  function actions(p) {
    const list = [];
    while (list.length < 3 && r.chance(p)) list.push(...action());
    return list;
  }

  function action() {
    const event = r.pick(EVENTS);
    const data = { k: { '%': [{ '+': [N, r.below(4)] }, 4] } };
    const fuelled = (inner) => [
      {
        type: 'choose',
        params: {
          branches: [
            { guard: { '<': [{ var: 'context.fuel' }, 14] }, actions: [burn(), inner] },
            { actions: [note('empty')] },
          ],
        },
      },
    ];
    switch (r.below(8)) {
      case 0:
        return [{ type: 'assign', params: { n: { '%': [{ '+': [N, 1 + r.below(3)] }, 7] } } }];
      case 1:
        return [{ type: 'assign', params: { n: { var: 'context.m' }, m: { '%': [N, 3] } } }];
      case 2:
        return fuelled({ type: 'raise', params: { event, data } });
      case 3:
        return fuelled({ type: 'send', params: { event, data } });
      case 4: {
        // PLED replaces a pending one of the same id; so it is cancelled first.
        const id = `t${(ids.timer += 1)}`;
        const type = r.pick(['raise', 'send']);
        const params = { event, data, delay_ms: 5 * (1 + r.below(6)), id };
        return [{ type: 'cancel', params: { id } }, ...fuelled({ type, params })];
      }
      case 5:
        return fuelled({ type: 'raise', params: { event, data, delay_ms: 5 * (1 + r.below(4)) } });
      case 6:
        return [{ type: 'cancel', params: { id: `t${1 + r.below(ids.timer + 1)}` } }];
      default:
        return [
          {
            type: 'choose',
            params: {
              branches: [{ guard: guard(), actions: [note('if'), burn()] }, { actions: [note('else')] }],
            },
          },
        ];
    }
  }

  function guard() {
    const real = all.filter(({ node }) => node.type !== 'history');
    switch (r.below(6)) {
      case 0:
        return { '==': [{ '%': [N, 2] }, r.below(2)] };
      case 1:
        return { '<': [K, 1 + r.below(3)] };
      case 2:
        return { inState: r.pick(real).node.id };
      case 3:
        return { '!': { inState: r.pick(real).node.id } };
      case 4:
        return { and: [{ '>=': [N, 1 + r.below(3)] }, { '<': [K, 3] }] };
      default:
        return { or: [{ inState: r.pick(real).node.id }, { '==': [{ var: 'context.m' }, 1] }] };
    }
  }

  function note(what) {
    return { type: 'act', params: { at: `${what}${(ids.site += 1)}`, n: N, k: K } };
  }

  function take(key) {
    return { type: 'assign', params: { [key]: { var: 'event.data' } } };
  }

  function burn() {
    return { type: 'assign', params: { fuel: { '+': [{ var: 'context.fuel' }, 1] } } };
  }
}

// ---- logic, as much of it as the charts have

function evaluate(logic, scope) {
  if (logic === null || typeof logic !== 'object') return logic;
  const [operator] = Object.keys(logic);
  const operands = [].concat(logic[operator]);
  if (operator === 'var') {
    const value = operands[0].split('.').reduce((at, key) => at?.[key], scope);
    return value ?? operands[1] ?? null;
  }
  if (operator === 'and') return operands.every((operand) => evaluate(operand, scope));
  if (operator === 'or') return operands.some((operand) => evaluate(operand, scope));
  const [a, b] = operands.map((operand) => evaluate(operand, scope));
  switch (operator) {
    case '+': return a + b;
    case '*': return a * b;
    case '%': return a % b;
    case '==': return a === b;
    case '<': return a < b;
    case '>=': return a >= b;
    case '!': return !a;
    default: throw new Error(`no operator ${operator}`);
  }
}

const mapped = (mapping, scope) =>
  Object.fromEntries(Object.entries(mapping).map(([key, value]) => [key, evaluate(value, scope)]));

// An XState event as PLED's logic sees it.
function scopeOf({ context, event }) {
  const data = event.data ?? event.output ?? event.error ?? event.input ?? null;
  return { context, event: { data } };
}

// ---- a chart as a machine

function machine(template, record, work) {
  const { context, delays, ...root } = template;
  const timers = Object.entries(delays).map(([name, delay]) => [
    name,
    (args) => evaluate(delay, scopeOf(args)),
  ]);
  return x.createMachine(
    { context, ...state(root), options: { maxIterations: 100 } },
    { actions: { act: (_, params) => record(params) }, delays: Object.fromEntries(timers), actors: { work } },
  );

  function state(node) {
    const made = { ...node };
    for (const key of ['entry', 'exit']) if (node[key]) made[key] = node[key].map(action);
    for (const key of ['on', 'after']) if (node[key]) made[key] = each(node[key], transitions);
    for (const key of ['always', 'onDone']) if (node[key]) made[key] = transitions(node[key]);
    if (node.initial?.actions) {
      made.initial = { ...node.initial, actions: node.initial.actions.map(action) };
    }
    if (node.states) made.states = each(node.states, state);
    if (node.output) made.output = (args) => mapped(node.output, scopeOf(args));
    if (node.invoke) {
      made.invoke = node.invoke.map((invoke) => ({
        ...invoke,
        input: (args) => mapped(invoke.input, scopeOf(args)),
        onDone: transitions(invoke.onDone),
        onError: transitions(invoke.onError),
      }));
    }
    return made;
  }

  function transitions(list) {
    return list.map(({ guard: when, actions, ...rest }) => ({
      ...rest,
      ...(when && { guard: guard(when) }),
      actions: actions.map(action),
    }));
  }

  function guard(logic) {
    if (logic.inState) return x.stateIn(`#${logic.inState}`);
    const inner = (operands) => [].concat(operands).map(guard);
    if (JSON.stringify(logic).includes('inState')) {
      if (logic['!']) return x.not(inner(logic['!'])[0]);
      return logic.and ? x.and(inner(logic.and)) : x.or(inner(logic.or));
    }
    return (args) => Boolean(evaluate(logic, scopeOf(args)));
  }

  function action({ type, params }) {
    const event = (args) => ({ type: params.event, data: mapped(params.data, scopeOf(args)) });
    const options = { ...(params.delay_ms && { delay: params.delay_ms }), ...(params.id && { id: params.id }) };
    switch (type) {
      case 'assign': return x.assign((args) => mapped(params, scopeOf(args)));
      case 'raise': return x.raise(event, options);
      case 'send': return x.sendTo(({ self }) => self, event, options);
      case 'cancel': return x.cancel(params.id);
      case 'choose':
        return x.enqueueActions(({ enqueue, check }) => {
          const branch = params.branches.find(({ guard: when }) => !when || check(guard(when)));
          for (const inner of branch?.actions ?? []) enqueue(action(inner));
        });
      default: return { type, params: (args) => mapped(params, scopeOf(args)) };
    }
  }
}

const each = (object, change) =>
  Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));

// An invocation that ends when it is told to.
const work = {
  getInitialSnapshot: (_, input) => ({ status: 'active', input, output: undefined, error: undefined }),
  getPersistedSnapshot: (snapshot) => snapshot,
  transition: (snapshot, event) =>
    event.type === 'end' ? { ...snapshot, ...event.with } : snapshot,
};

// ---- a clock

function clock() {
  let now = 0;
  let made = 0;
  const timers = new Map();
  return {
    setTimeout(fire, delay) {
      timers.set((made += 1), { due: now + delay, fire });
      return made;
    },
    clearTimeout: (id) => timers.delete(id),
    advance(by) {
      const end = now + by;
      for (;;) {
        const due = [...timers].filter(([, timer]) => timer.due <= end);
        if (due.length === 0) break;
        due.sort(([a, one], [b, other]) => one.due - other.due || a - b);
        const [id, timer] = due[0];
        timers.delete(id);
        now = timer.due;
        timer.fire();
      }
      now = end;
    },
  };
}

// ---- a case

function run(seed) {
  const r = random(seed);
  const template = chart(r, seed);
  let acts = [];
  const time = clock();
  const input = r.chance(0.5) ? { m: r.below(3) } : undefined;
  const logic = machine(template, (params) => acts.push(['act', params]), work);
  const actor = x.createActor(logic, { clock: time, input });
  let error = null;
  actor.subscribe({ error: (thrown) => (error = thrown) });
  actor.start();
  const active = () =>
    Object.values(actor.getSnapshot().children).filter((child) => child.getSnapshot().status === 'active');
  // XState gets into a configuration without a parent of an active state where a history is entered
  // from inside its own parallel parent; PLED does not (see Corners in engine/src/statechart).
  let legal = true;
  const seen = () => {
    const { _nodes: nodes, context, status } = actor.getSnapshot();
    legal &&= nodes.every(({ parent }) => !parent || nodes.includes(parent));
    const leaves = nodes.filter((node) => node.type === 'atomic' || node.type === 'final');
    leaves.sort((a, b) => a.order - b.order);
    const invocations = active().map((child) => [child.id, child.getSnapshot().input]);
    invocations.sort(([a], [b]) => (a < b ? -1 : 1));
    const observed = {
      configuration: leaves.map((node) => node.id),
      context,
      actions: acts,
      status,
      invocations: status === 'active' ? invocations : [],
    };
    acts = [];
    return structuredClone(observed);
  };
  const initial = seen();
  const steps = [];
  while (steps.length < 14 && actor.getSnapshot().status === 'active') {
    const step = {};
    if (r.chance(0.4)) time.advance((step.after_ms = 5 * r.below(8)));
    if (actor.getSnapshot().status === 'active' && (!step.after_ms || r.chance(0.5))) {
      const running = active();
      // In a step of its own, so that it is known which start of the invocation it ends.
      if (running.length > 0 && !step.after_ms && r.chance(0.5)) {
        const child = r.pick(running);
        const ok = r.chance(0.6);
        const data = ok ? { k: r.below(4) } : { code: 'broken', k: r.below(4) };
        step.event = { name: `${ok ? 'done' : 'error'}.invoke.${child.id}`, data };
        child.send({ type: 'end', with: ok ? { status: 'done', output: data } : { status: 'error', error: data } });
      } else {
        step.event = { name: r.pick(EVENTS), data: { k: r.below(4) } };
        actor.send({ type: step.event.name, data: step.event.data });
      }
    }
    step.expect = seen();
    steps.push(step);
  }
  if (error || !legal) return null;
  const sizes = steps.map(({ expect }) => expect.actions.length);
  const lively = sizes.filter((size) => size > 0).length;
  if (lively < 5 || Math.max(initial.actions.length, ...sizes) > 60) return null;
  return { name: `xstate-${seed}`, template, ...(input && { input }), initial, steps };
}

for (let seed = first, made = 0; made < count; seed += 1) {
  const made_case = run(seed);
  if (made_case === null) continue;
  console.log(JSON.stringify(made_case));
  made += 1;
}
