/** A real HTTP server over a real store. Only the scheduler is replaced. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ApiDeps, createApi } from '../../core/api/index.js';
import { PluginError } from '../../core/contract/index.js';
import type { JobRows, JobService, Jobs, JobsEvent, ProgressEvent } from '../../core/jobs/job.js';
import { ServiceError } from '../../core/primitives/service-error.js';
import { schemaText } from '../../core/schemas.js';
import { openStore, type Store } from '../../core/store/index.js';
import { isBody } from '../support/api-client.js';
import { describedBy } from '../support/described-answers.js';

/** Keeps records as the scheduler does, runs nothing. */
function jobsOf<Spec>(kept: JobRows<Spec>): Jobs<Spec> {
  const must = async (id: number) => {
    const record = await kept.get(id);
    if (record === undefined) throw new ServiceError('not_found', `no job ${id}`);
    return record;
  };
  return {
    list: (range) => kept.list(range),
    listNamed: (name) => kept.listNamed(name),
    listUsing: (target) => kept.listUsing(target),
    get: (id) => kept.get(id),
    create: (spec) => kept.create(spec, { code: 'init' }),
    async update(id, spec) {
      const record = { ...(await must(id)), spec };
      await kept.put(record);
      return record;
    },
    async delete(id) {
      if ((await must(id)).state.code === 'running') throw new ServiceError('busy', `job ${id} runs`);
      await kept.delete(id);
    },
    async run(id) {
      const old = await must(id);
      if (old.state.code === 'running') throw new ServiceError('busy', `job ${id} runs`);
      const record = { ...old, state: { ...old.state, code: 'running' as const } };
      await kept.put(record);
      return record;
    },
    async stop(id) {
      const old = await must(id);
      if (old.state.code !== 'running') return old;
      const record = { ...old, state: { ...old.state, code: 'scheduled' as const, result: -2 as const } };
      await kept.put(record);
      return record;
    },
  };
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: unknown;
}
export interface Harness {
  readonly store: Store;
  readonly folder: string;
  readonly running: Map<number, ProgressEvent>;
  tell(event: ProgressEvent): void;
  /** As the job service's bus does. */
  publish(event: JobsEvent): void;
  readonly address: string;
  /** With the cookie of the last login; the body goes out as curl -d sends it. */
  ask(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  close(): Promise<void>;
}

/** That every backup of it holds. */
export const someRun = '2026-11-24_00-00-00';
export const nextRun = new Date(2030, 0, 2, 1, 0, 0).getTime();

/** As the schema shows it, changed in parts. */
export function exampleOf(schema: string, change: object = {}): object {
  const { examples } = schemaText(schema);
  const [example] = Array.isArray(examples) ? examples : [];
  if (!isBody(example)) throw new Error(`the schema ${schema} has no example`);
  return { ...example, ...change };
}

const report = (id: string, kind: 'target' | 'runtime') => ({ folder: id, id, kind, ok: true });

type Listener = (event: JobsEvent) => void;

function jobService(store: Store, running: ReadonlyMap<number, ProgressEvent>, listeners: Set<Listener>): JobService {
  const onEvent = (listener: Listener) => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  };
  return {
    backup: jobsOf(store.backup),
    restore: jobsOf(store.restore),
    limitChanged: () => undefined,
    targetChanged: () => undefined,
    undo: async (id) => {
      throw new ServiceError('not_found', `restore ${id} keeps nothing`);
    },
    confirm: async (id) => {
      throw new ServiceError('not_found', `backup ${id} found nothing empty`);
    },
    takeOver: async (id) => {
      throw new ServiceError('conflict', `the record of backup ${id} is its own`);
    },
    purge: async (id) => store.backup.delete(id),
    progress: () => [...running.values()],
    progressOf: (_kind, id) => running.get(id)?.progress,
    expectedPauseOf: () => undefined,
    retryOf: () => undefined,
    history: async () => [],
    onEvent,
    onProgress: (listener) => onEvent((event) => event.type === 'progress' && listener(event.progress)),
    nextRun: (at) => (at.repeat === 'oneshot' ? undefined : nextRun),
  };
}

interface HandlerParts {
  readonly store: Store;
  readonly jobs: JobService;
  readonly share: string;
  readonly setupCodeFile: string;
  readonly more: Partial<ApiDeps>;
}

function handlerOf({ store, jobs, share, setupCodeFile, more }: HandlerParts) {
  return createApi({
    store,
    jobs,
    plugins: { reports: [report('lxc', 'runtime'), report('docker', 'runtime'), report('sftp', 'target')] },
    listContainers: async () => [{ id: 'utest', name: 'utest', image: '', state: 'running', type: 'lxc' }],
    viewContainer: async ({ type, id }) => {
      if (id !== 'utest') throw new PluginError('not_found', `there is no container ${id}`);
      return exampleOf('container-view', { id, name: id, type });
    },
    localTarget: {
      shares: { test: share },
      listShare: async () => [
        { name: 'b', write: true },
        { name: '.hidden', write: true },
        { name: 'container-backup@x', write: true },
      ],
    },
    remoteTargets: {
      ping: async () => false,
      dirs: async () => {
        throw new PluginError('unavailable', 'nothing answers', { retryable: true });
      },
      check: async () => ({ alive: false, writable: false, problems: [] }),
    },
    restorePlan: async (spec) => exampleOf('restore-preview', { container: spec.container_id }),
    backupRuns: async () => [exampleOf('run')],
    backupManifest: async (_spec, run) => (run === someRun ? exampleOf('manifest') : undefined),
    engineVersions: async () => ({ lxc: '5.0.2' }),
    setupCodeFile,
    log: () => undefined,
    ...more,
  });
}

/** Keeps the cookie of the last login; all that is answered is held against the description. */
async function client(port: number): Promise<Harness['ask']> {
  let cookie = '';
  const described = await describedBy(`http://127.0.0.1:${port}`);
  if (described === undefined) throw new Error('the API does not describe itself');
  return async (method, path, body, headers = {}) => {
    const payload = body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) };
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      headers: { cookie, 'content-type': 'application/x-www-form-urlencoded', ...headers },
      ...payload,
    });
    const set = answer.headers.get('set-cookie')?.split(';')[0];
    if (set !== undefined) cookie = set;
    const text = await answer.text();
    const json: unknown = JSON.parse(text);
    described.check(method, path, { status: answer.status, type: answer.headers.get('content-type') ?? '', json });
    return { status: answer.status, headers: answer.headers, text, json };
  };
}

export async function start(more: Partial<ApiDeps> = {}): Promise<Harness> {
  const folder = await mkdtemp(join(tmpdir(), 'api-'));
  const share = join(folder, 'share');
  await mkdir(share);
  const setupCodeFile = join(folder, 'setup-code');
  await writeFile(setupCodeFile, 'one-time-code\n');
  const store = await openStore(join(folder, 'state'));
  const running = new Map<number, ProgressEvent>();
  const listeners = new Set<Listener>();
  const publish = (event: JobsEvent) => {
    for (const listener of listeners) listener(event);
  };
  const jobs = jobService(store, running, listeners);
  const handler = handlerOf({ store, jobs, share, setupCodeFile, more });
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return {
    store,
    folder,
    running,
    tell(event) {
      if (event.progress === -1) running.delete(event.id);
      else running.set(event.id, event);
      publish({ type: 'progress', progress: event });
    },
    publish,
    address: `http://127.0.0.1:${port}`,
    ask: await client(port),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await store.close();
      await rm(folder, { recursive: true });
    },
  };
}

/** As an admin. */
export async function startIn(more: Partial<ApiDeps> = {}): Promise<Harness> {
  const h = await start(more);
  await h.store.users.createFirst('admin', 'correct horse');
  await h.ask('POST', '/api/v1/login', 'username=admin&password=correct+horse');
  return h;
}
