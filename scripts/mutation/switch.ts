/** What instrumented sources call is kept here, in each thread: the change that is made now, and what has been reached. */
export interface Switch {
  /** The change that is made now. */
  file?: string | undefined;
  id?: string | undefined;
  /** How often its code has run, and may run before that counts as a loop without an end. */
  runs: number;
  mostRuns: number;
  /** How often the code of each change of each source has run, where that is to be known. */
  reached?: Record<string, Record<string, number>> | undefined;
}

/** Threads and processes that start while a change is made read it here: `src/store/files/extents.ts 12`. */
export const activeVariable = 'MUTATION_ACTIVE';

/** Other threads and processes write there which changes they reach, a line each: `src/store/files/hash-worker.ts 12`. */
export const reachVariable = 'MUTATION_REACHED_ELSEWHERE';

/** The switch of this thread. */
export function switchOf(): Switch {
  const holder = globalThis as { millpondMutation?: Switch };
  return (holder.millpondMutation ??= { runs: 0, mostRuns: Number.POSITIVE_INFINITY });
}

/** Makes one change from here on, or none. */
export function turn(to: { file: string; id: string; mostRuns: number } | undefined): void {
  Object.assign(switchOf(), { runs: 0, mostRuns: Number.POSITIVE_INFINITY, file: undefined, id: undefined, ...to });
  if (to === undefined) delete process.env[activeVariable];
  else process.env[activeVariable] = `${to.file} ${to.id}`;
}

/** The functions that an instrumented source calls, so that one copy of it holds all changes; one of them is made at a time. */
export function switching(source: string): string {
  return `
function stryNS_9fa48() {
  if (stryNS_9fa48.state) return stryNS_9fa48.state;
  const [file, id] = (process.env.${activeVariable} ?? '').split(' ');
  const elsewhere = process.env.${reachVariable};
  globalThis.millpondMutation ??= { file, id, runs: 0, mostRuns: Infinity, elsewhere };
  return (stryNS_9fa48.state = globalThis.millpondMutation);
}
function stryMutAct_9fa48(id) {
  const state = stryNS_9fa48();
  if (state.id !== id || state.file !== ${JSON.stringify(source)}) return false;
  if (++state.runs > state.mostRuns) throw new Error('The changed code runs too often.');
  return true;
}
function stryCov_9fa48(...ids) {
  const state = stryNS_9fa48();
  if (state.elsewhere) return stryNote_9fa48(state.elsewhere, ids);
  if (state.reached === undefined) return;
  const counts = (state.reached[${JSON.stringify(source)}] ??= {});
  for (const id of ids) counts[id] = (counts[id] ?? 0) + 1;
  if (++state.runs > state.mostRuns) throw new Error('The code runs too often to judge many changes.');
}
function stryNote_9fa48(path, ids) {
  const seen = (stryNote_9fa48.seen ??= new Set());
  const fresh = ids.filter((id) => !seen.has(id));
  for (const id of fresh) seen.add(id);
  if (fresh.length === 0) return;
  try {
    process.getBuiltinModule('node:fs').appendFileSync(path, fresh.map((id) => ${JSON.stringify(`${source} `)} + id + '\\n').join(''));
  } catch {}
}
`;
}
