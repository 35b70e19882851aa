/** A state that is damaged in both copies. The service reports it, loses nothing more, and starts again once a person has
 *  chosen what to restore. */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import { ApiClient, notSoon, part } from '../../support/api-client.js';
import { runToEnd, type ServiceProcess, startProcess } from '../bed/service-process.js';
import { until } from '../pause/python-container.js';
import { cutLines } from './bed.js';

interface Bed {
  readonly state: string;
  readonly flags: readonly string[];
}

async function makeBed(t: Test): Promise<Bed> {
  const folder = await mkdtemp(join(tmpdir(), 'rescue-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const state = join(folder, 'state');
  const engines = ['--lxc-path', join(folder, 'no-lxc'), '--docker-socket', join(folder, 'no-docker')];
  return { state, flags: ['--state', state, '--listen', '127.0.0.1:0', ...engines] };
}

async function clientOf(service: ServiceProcess): Promise<ApiClient> {
  const [, address = ''] = await service.announces(/^listening on (http:\/\/\S+)/);
  return new ApiClient(address);
}

const job = (name: string) => ({
  job_name: name,
  container_id: name,
  type: 'lxc',
  dest: { target: 'local', path: '/backup/b' },
  at: notSoon(),
});

/** A service with an admin and jobs of these names. */
async function fill({ flags }: Bed, names: readonly string[]): Promise<void> {
  await using service = startProcess(['serve', ...flags]);
  const client = await clientOf(service);
  const [, code = ''] = await service.announces(/setup code: (\S+)/);
  await client.logIn(code);
  for (const name of names) await client.call('POST', '/backup/', job(name));
}

/** Damages both copies: the journal in its middle, the database so that it cannot be opened. */
async function breakBoth({ state }: Bed): Promise<void> {
  const [file = ''] = await readdir(join(state, 'journal'));
  await cutLines(join(state, 'journal', file), '"job_name":"two"');
  await rm(join(state, 'db'), { recursive: true });
}

const jobNames = (answer: unknown): unknown[] => (Array.isArray(answer) ? answer.map((one) => part(one, 'job_name')) : []);

t.test('a state that is damaged in both copies is reported, and the service serves and overwrites nothing', async (t) => {
  const bed = await makeBed(t);
  await fill(bed, ['one', 'two', 'three']);
  await breakBoth(bed);
  const before = await readdir(bed.state);
  await using service = startProcess(['serve', ...bed.flags]);
  const client = await clientOf(service);
  t.match(await (await fetch(`${client.address}/healthz`)).json(), { alive: true });
  for (const path of ['/readyz', '/api/v1/backup/', '/api/v1/login', '/anything']) {
    const answer = await fetch(`${client.address}${path}`, { method: path.endsWith('login') ? 'POST' : 'GET' });
    t.equal(answer.status, 503, path);
    t.match(await answer.json(), { error: { code: 503, reason: 'state_damaged', message: /state is damaged: .*state show/ } });
  }
  const problem = await fetch(`${client.address}/readyz`, { headers: { accept: 'application/problem+json' } });
  t.match(await problem.json(), { type: 'urn:container-backup:error:state_damaged', retryable: false });
  t.match(service.said.stderr, /error the state in \S+ is damaged/);
  t.same(await readdir(bed.state), before, 'nothing was made or removed');

  const shown = await runToEnd(['state', 'show', '--state', bed.state]);
  t.match(shown.stdout, /the state is damaged/);
  t.match(shown.stdout, /state restore: .* It would lose:\n(.*\n)*.*backup 3 \(three\): lost/, 'row by row');
  t.match(await runToEnd(['state', 'begin-anew', '--state', bed.state]), { code: 2, stdout: /yes-lose-everything/ });

  t.match(await runToEnd(['state', 'repair', '--state', bed.state]), { code: 0, stdout: /the state has \d+ rows now/ });
  await until('the service serves again', () =>
    fetch(`${client.address}/readyz`).then(
      ({ status }) => status === 200,
      () => false, // the port is closed during the restart
    ),
  );
  await client.logIn();
  const jobs = await client.call('GET', '/backup/?view=full');
  t.same(jobNames(jobs), ['one', 'three'], 'what could be read is there');
  const made = await client.call('POST', '/backup/', job('four'));
  t.ok(Number(part(made, 'id')) > 1000, 'and no id is given again');
  t.ok(
    (await readdir(join(bed.state, 'journal'))).some((name) => name.includes('.damaged-')),
    'what was there is set aside',
  );
});

t.test('the newest proven state is restored on request, and a new one begins on request only', async (t) => {
  const bed = await makeBed(t);
  await fill(bed, ['one', 'two', 'three']);
  await breakBoth(bed);
  t.match(await runToEnd(['state', 'restore', '--state', bed.state]), { code: 0, stdout: /It lost:\n(.*\n)*.*backup 3 \(three\)/ });
  {
    await using service = startProcess(['serve', ...bed.flags]);
    const client = await clientOf(service);
    await client.logIn();
    t.same(jobNames(await client.call('GET', '/backup/')), ['one']);
  }
  await writeFile(join(bed.state, 'db/CURRENT'), '');
  await rm(join(bed.state, 'journal'), { recursive: true });
  t.match(await runToEnd(['state', 'begin-anew', '--yes-lose-everything', '--state', bed.state]), { code: 0, stdout: /state\.aside-/ });
  await using service = startProcess(['serve', ...bed.flags]);
  await service.announces(/setup code: /);
  const aside = (await readdir(bed.state)).find((name) => name.startsWith('state.aside-')) ?? '';
  t.ok((await readdir(join(bed.state, aside))).includes('db'), 'the old one is kept');
});

t.test('a read-only state folder and one in use are reported as such, not as damage', async (t) => {
  const bed = await makeBed(t);
  await fill(bed, ['one']);
  {
    await using service = startProcess(['serve', ...bed.flags]);
    await clientOf(service);
    t.match(await runToEnd(['serve', ...bed.flags]), { code: 1, stderr: /is in use by another container-backup/ });
    t.match(await runToEnd(['state', 'show', '--state', bed.state]), { code: 1, stderr: /is in use by another container-backup/ });
  }
  await readOnly(t, bed.state);
  const { code, stderr } = await runToEnd(['serve', ...bed.flags]);
  t.equal(code, 1);
  t.match(stderr, /cannot be written .*mount it writable/);
  t.notMatch(stderr, /in use/);
});

async function readOnly(t: Test, folder: string): Promise<void> {
  await childOutput('mount', ['--bind', folder, folder]);
  t.teardown(() => childOutput('umount', [folder]));
  await childOutput('mount', ['-o', 'remount,bind,ro', folder]);
}
