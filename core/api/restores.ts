/** Restore jobs. */
import type { RestoreRecord, RestoreSpec } from '../jobs/job.js';
import { parsed } from '../schemas.js';
import { tagOf } from './answer.js';
import { type Call, found, idOf, type Route, specBody } from './call.js';
import type { ApiDeps } from './deps.js';
import { checkPlace, checkType } from './places.js';
import { stateShown } from './state.js';

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

export function restoreRoutes(deps: ApiDeps): Route[] {
  const jobs = deps.jobs.restores;
  const tell = (call: Call, record: RestoreRecord) => {
    call.etag(tagOf(record.id, record.spec));
    return shown(deps, record, call.full);
  };
  const create = async (call: Call) => tell(call, await jobs.create(await checkedSpec(deps, 'restore', await specBody(call))));
  const plan = async (call: Call) => deps.restorePlan(await checkedSpec(deps, 'restore-plan', await specBody(call)));
  const list = async (call: Call) => (await jobs.list()).map((r) => shown(deps, r, call.full));
  const run = async (call: Call) => tell(call, await jobs.run((await restore(deps, call)).id));
  const stop = async (call: Call) => tell(call, await jobs.stop((await restore(deps, call)).id));
  const undo = async (call: Call, what: 'bring-back' | 'drop') => tell(call, await deps.jobs.undo((await restore(deps, call)).id, what));
  const remove = async (call: Call) => {
    const { id } = await restore(deps, call);
    await jobs.delete(id);
    return [id];
  };
  return [
    { method: 'get', path: '/restore/', access: 'user', summary: 'List restore jobs', handle: list },
    { method: 'post', path: '/restore/', access: 'admin', summary: 'Create a restore job', schema: 'restore', handle: create },
    { method: 'post', path: '/restore/plan', access: 'admin', summary: 'What a restore would do', schema: 'restore-plan', handle: plan },
    { method: 'put', path: '/restore/:id/run', access: 'admin', summary: 'Run it now', handle: run },
    { method: 'put', path: '/restore/:id/stop', access: 'admin', summary: 'Stop it now', handle: stop },
    {
      method: 'put',
      path: '/restore/:id/undo',
      access: 'admin',
      summary: 'Bring back what it replaced',
      handle: (c) => undo(c, 'bring-back'),
    },
    {
      method: 'delete',
      path: '/restore/:id/undo',
      access: 'admin',
      summary: 'Remove what it replaced for good',
      handle: (c) => undo(c, 'drop'),
    },
    {
      method: 'get',
      path: '/restore/:id',
      access: 'user',
      summary: 'Get a restore job',
      handle: async (c) => tell(c, await restore(deps, c)),
    },
    { method: 'delete', path: '/restore/:id', access: 'admin', summary: 'Delete a restore job', handle: remove },
  ];
}
