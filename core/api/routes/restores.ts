/** Restore jobs. */
import type { RestoreRecord, RestoreSpec } from '../../jobs/job.js';
import { parsed } from '../../schemas.js';
import type { ApiDeps } from '../deps.js';
import { listed } from '../lists.js';
import { checkPlace, checkType } from '../places.js';
import { type Call, found, idOf, type Route, route, specBody } from '../request.js';
import { stateShown } from '../state.js';
import { type Serial, tagOf } from '../values.js';

/** job_name isn't in the captured answers. */
function shown(deps: ApiDeps, record: RestoreRecord, full: boolean): object {
  const { job_name, ...spec } = record.spec;
  return { id: record.id, ...spec, ...(full ? { job_name } : {}), state: stateShown(deps.jobs, 'restore', record, full) };
}

async function checkedSpec(deps: ApiDeps, schema: 'restore' | 'restore-plan', value: unknown): Promise<RestoreSpec> {
  const spec = parsed(schema, value);
  checkType(deps, spec.type, 'runtime');
  await checkPlace(deps, spec.src, 'src');
  return spec;
}

async function restore(deps: ApiDeps, call: Call): Promise<RestoreRecord> {
  const id = idOf(call);
  return found(await deps.jobs.restores.get(id), `restore ${id}`);
}

/** @param links what changes or relies on which jobs have which target */
export function restoreRoutes(deps: ApiDeps, links: Serial): Route[] {
  const jobs = deps.jobs.restores;
  const tell = (call: Call, record: RestoreRecord) => {
    call.etag(tagOf(record.id, record.spec));
    return shown(deps, record, call.full);
  };
  const create = async (call: Call) => {
    const body = await specBody(call);
    return links(async () => tell(call, await jobs.create(await checkedSpec(deps, 'restore', body))));
  };
  const plan = async (call: Call) => deps.restorePlan(await checkedSpec(deps, 'restore-plan', await specBody(call)), call.gone);
  const list = (call: Call) => listed(call, jobs, (r) => shown(deps, r, call.full));
  const run = async (call: Call) => tell(call, await jobs.run((await restore(deps, call)).id));
  const stop = async (call: Call) => tell(call, await jobs.stop((await restore(deps, call)).id));
  const undo = async (call: Call, what: 'bring-back' | 'drop') => tell(call, await deps.jobs.undo((await restore(deps, call)).id, what));
  const remove = async (call: Call) => {
    const { id, state } = await restore(deps, call);
    const isActive = state.code === 'waiting' || state.code === 'running'; // delete refuses it
    if (state.undo && !isActive) await deps.jobs.undo(id, 'drop'); // nobody could name it afterwards
    await jobs.delete(id);
    return [id];
  };
  return [
    route('get', '/restore/', 'user', 'List restore jobs', list, { parts: true }),
    route('post', '/restore/', 'admin', 'Create a restore job', create, 'restore'),
    route('post', '/restore/plan', 'admin', 'What a restore would do', plan, 'restore-plan'),
    route('put', '/restore/:id/run', 'admin', 'Run it now', run),
    route('put', '/restore/:id/stop', 'admin', 'Stop it now', stop),
    route('put', '/restore/:id/undo', 'admin', 'Bring back what it replaced', (c) => undo(c, 'bring-back')),
    route('delete', '/restore/:id/undo', 'admin', 'Remove what it replaced for good', (c) => undo(c, 'drop')),
    route('get', '/restore/:id', 'user', 'Get a restore job', async (c) => tell(c, await restore(deps, c))),
    route('delete', '/restore/:id', 'admin', 'Delete a restore job', remove),
  ];
}
