/** Remote targets and the folders of any target. */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { anySignal } from '../../contract/index.js';
import type { Mutex } from '../../primitives/mutex.js';
import { parse } from '../../schemas.js';
import type { TargetRow, TargetSpec } from '../../store/index.js';
import type { ApiDeps, Folder } from '../deps.js';
import { ApiError, invalidField } from '../errors.js';
import { checkType, dirsPath, hostOf, partsOf } from '../locations.js';
import { json, type Reply } from '../replies.js';
import { type ApiRequest, type Body, idOf, isBody, requireFound, specBody } from '../request.js';
import { listOf, one, type Route, route, rowsOf } from '../route.js';
import { checkMatch, tagOf } from '../values.js';

const answer = one('remote-target', 'remote-target');
const rows = rowsOf({
  listTargets: { summary: 'List remote targets', access: 'user', answer: listOf('remote-target', 'remote-target') },
  createTarget: { summary: 'Create a remote target', access: 'admin', body: { schema: 'target' }, answer },
  listLocalFolders: {
    summary: 'List shared folders, and the folders in them',
    access: 'user',
    answer: listOf('folder'),
  },
  listTargetFolders: { summary: 'List folders and records on a target', access: 'user', answer: listOf('folder') },
  pingTarget: { summary: 'Test the connection', access: 'user', answer: one('ping') },
  checkTarget: { summary: 'Write a file to the target and read it back', access: 'user', answer: one('target-check') },
  getTarget: { summary: 'Get a remote target', access: 'user', answer },
  modifyTarget: {
    summary: 'Modify a remote target',
    access: 'admin',
    body: { schema: 'target', isPart: true },
    matches: true,
    answer,
  },
  deleteTarget: {
    summary: 'Delete a remote target',
    access: 'admin',
    answer: one('deleted'),
    errors: { 409: 'A job uses the target' },
  },
});

/** A ping answers within 10 s. */
const pingMs = 9_500;
const dirsMs = 30_000;

/** Shows a target without its password, and options only when the secret ones are known. In full, also what the first contact found. */
function showTarget(deps: ApiDeps, { id, spec, found, lost }: TargetRow, full: boolean): object {
  const { password: _password, options: own, ...plain } = spec;
  const contact = full && found?.ipaddr === spec.ipaddr ? found : undefined;
  const type = spec.type ?? contact?.type;
  const options = contact === undefined ? own : { ...contact.options, ...own };
  const typed = { id, ...plain, ...(type !== undefined && { type }), ...(lost !== undefined && { secrets: 'lost' }) };
  const secret = type === undefined ? undefined : deps.plugins.secretOptions?.(type);
  if (options === undefined || secret === undefined) return typed;
  return { ...typed, options: Object.fromEntries(Object.entries(options).filter(([key]) => !secret.includes(key))) };
}

function checkSpec(deps: ApiDeps, value: unknown): TargetSpec {
  const spec = parse('target', value);
  hostOf(spec.ipaddr);
  partsOf(spec.base, '/base');
  if (spec.type === undefined) return spec;
  checkType(deps, spec.type, 'target');
  deps.plugins.checkTarget?.(spec.type, spec);
  return spec;
}

async function jobsUsing(deps: ApiDeps, id: number): Promise<string[]> {
  const backups = await deps.jobs.backup.listUsing(id);
  // A completed restore no longer needs its target.
  const restores = (await deps.jobs.restore.listUsing(id)).filter((r) => r.state.code !== 'completed');
  return [...backups.map((b) => `backup ${b.id} (${b.spec.job_name})`), ...restores.map((r) => `restore ${r.id} (${r.spec.job_name})`)];
}

function entries(folders: readonly Folder[]): object[] {
  return folders
    .filter((f) => !f.name.startsWith('.'))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((f) => ({ is_dir: true, name: f.name, type: f.name.startsWith('container-backup@') ? 'b' : 'd', write: f.write }));
}

async function localDirs(deps: ApiDeps, path: string): Promise<Reply> {
  const { shares, listShare } = deps.localTarget;
  if (path !== '') {
    const [share = '', ...rest] = path.split('/');
    if (!Object.hasOwn(shares, share)) throw new ApiError('not_found', `there is no share ${share}`);
    return json(entries(await listShare(share, rest.join('/'))));
  }
  const tops = Object.entries(shares).map(async ([name, folder]) => {
    const write = await access(folder, constants.W_OK).then(
      () => true,
      () => false,
    );
    return { name, write };
  });
  return json(entries(await Promise.all(tops)));
}

async function remoteDirs(deps: ApiDeps, target: TargetRow, request: ApiRequest): Promise<Reply> {
  const path = dirsPath(request.path);
  const signal = anySignal(request.gone, AbortSignal.timeout(dirsMs));
  try {
    return json(entries(await deps.remoteTargets.dirs(target, path, signal)));
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    // A missing folder or a bad path is the client's error; any other means that the server is unusable now.
    if (code === 'not_found' || code === 'invalid') throw error;
    deps.log('warn', 'listing folders of a target failed', { target: target.id, code: String(code), why: String(error) });
    throw new ApiError('unavailable', hostOf(target.spec.ipaddr));
  }
}

async function ping(deps: ApiDeps, target: TargetRow, request: ApiRequest): Promise<Reply> {
  const limit = anySignal(request.gone, AbortSignal.timeout(pingMs));
  const late = new Promise<boolean>((resolve) => limit.addEventListener('abort', () => resolve(false), { once: true }));
  return json({ alive: await Promise.race([deps.remoteTargets.ping(target, limit).catch(() => false), late]) });
}

async function check(deps: ApiDeps, target: TargetRow, request: ApiRequest): Promise<Reply> {
  return json(await deps.remoteTargets.check(target, anySignal(request.gone, AbortSignal.timeout(dirsMs))));
}

async function change(deps: ApiDeps, request: ApiRequest, body: Body): Promise<TargetRow> {
  const id = idOf(request);
  const row = await deps.store.targets.update(id, (old) => {
    checkMatch(request, tagOf(id, old.spec));
    // Merge options too: a client that confirms a host key cannot read back the private key, which must not be dropped.
    const options = isBody(body.options) ? { options: { ...old.spec.options, ...body.options } } : {};
    const { secrets: _shown, ...keys } = body; // a client can send back the object of a GET
    const spec = checkSpec(deps, { ...old.spec, ...keys, ...options });
    const isLost = old.lost !== undefined && body.password === undefined;
    if (isLost && isBody(body.options)) throw invalidField('/password', 'is lost with its options: set both again');
    // Another address may be another server: drop what the first contact found.
    return { id, spec, ...(old.found?.ipaddr === spec.ipaddr && { found: old.found }), ...(isLost && { lost: old.lost }) };
  });
  deps.jobs.targetChanged(id);
  return requireFound(row, `target ${id}`);
}

async function remove(deps: ApiDeps, request: ApiRequest): Promise<Reply> {
  const { id } = await target(deps, request);
  const users = await jobsUsing(deps, id);
  if (users.length > 0) throw new ApiError('in_use', `target ${id} is used by ${users.join(', ')}; change or delete them first`);
  await deps.store.targets.delete(id);
  return json([id]);
}

async function target(deps: ApiDeps, request: ApiRequest): Promise<TargetRow> {
  const id = idOf(request);
  return requireFound(await deps.store.targets.get(id), `target ${id}`);
}

/** A target that can be connected to. @throws ApiError secrets_lost */
async function usable(deps: ApiDeps, request: ApiRequest): Promise<TargetRow> {
  const row = await target(deps, request);
  if (row.lost === undefined) return row;
  const fix = `set the password again: PUT /target/${row.id} {"password": …}`;
  throw new ApiError('secrets_lost', `the password of target ${row.spec.name} cannot be opened, since secret.key was lost; ${fix}`);
}

/** @param changes serialises changes of the links between jobs and targets */
export function targetRoutes(deps: ApiDeps, changes: Mutex): Route[] {
  const tell = (request: ApiRequest, row: TargetRow) =>
    json(showTarget(deps, row, request.full), { headers: { ETag: tagOf(row.id, row.spec) } });
  const create = async (request: ApiRequest) => {
    const spec = checkSpec(deps, await specBody(request));
    return tell(request, await deps.store.targets.create(spec));
  };
  const modify = async (request: ApiRequest) => {
    const body = await specBody(request);
    return changes.run(async () => tell(request, await change(deps, request, body)));
  };
  const list = async (request: ApiRequest) => json((await deps.store.targets.list()).map((t) => showTarget(deps, t, request.full)));
  return [
    route('get', '/target/', rows.listTargets, list),
    route('post', '/target/', rows.createTarget, create),
    route('get', '/target/local/dirs{/*path}', rows.listLocalFolders, (c) => localDirs(deps, dirsPath(c.path))),
    route('get', '/target/:id/dirs{/*path}', rows.listTargetFolders, async (c) => remoteDirs(deps, await usable(deps, c), c)),
    route('get', '/target/:id/ping', rows.pingTarget, async (c) => ping(deps, await usable(deps, c), c)),
    route('get', '/target/:id/check', rows.checkTarget, async (c) => check(deps, await target(deps, c), c)),
    route('get', '/target/:id', rows.getTarget, async (c) => tell(c, await target(deps, c))),
    route('put', '/target/:id', rows.modifyTarget, modify),
    route('delete', '/target/:id', rows.deleteTarget, (c) => changes.run(() => remove(deps, c))),
  ];
}
