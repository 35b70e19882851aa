/** Times of API requests with many jobs. No job runs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { Agent, get } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ApiClient } from '../../support/api-client.js';
import { nodeFlags, serviceCommand } from '../../support/service-command.js';
import { type Spread, samples, spread, spreadPair, timed } from '../spread.js';

/** Requests at a time for jobs that are made without a measurement. */
const atOnce = 16;

export interface JobFigures {
  readonly jobs: number;
  readonly post: Spread;
  readonly get: Spread;
  /** The same request to a server that does nothing, in turns: the cost of the machine and the client. */
  readonly nothing: Spread;
  /** Milliseconds. */
  readonly part: number;
  readonly list: number;
  readonly full: number;
  /** From the start of the process to its first line of output, with all these jobs in its state. */
  readonly start: number;
  /** Resident, MiB. */
  readonly memory: number;
}

interface Started extends AsyncDisposable {
  readonly client: ApiClient;
  readonly pid: number;
  readonly ms: number;
}

async function start(checkout: string, state: string): Promise<Started> {
  const began = performance.now();
  const none = join(state, 'none');
  const args = ['serve', '--state', state, '--listen', '127.0.0.1:0', '--lxc-path', none, '--docker-socket', none];
  const child = spawn(...serviceCommand(args, checkout), { stdio: ['ignore', 'pipe', 'ignore'] });
  const [line] = await once(createInterface(child.stdout), 'line');
  const ms = performance.now() - began;
  const client = new ApiClient(/^listening on (\S+)$/.exec(String(line))?.[1] ?? '');
  const code = await readFile(join(state, 'setup-code'), 'utf8').catch(() => undefined);
  await client.logIn(code?.trim());
  return {
    client,
    pid: child.pid ?? 0,
    ms,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await once(child, 'exit');
    },
  };
}

export const job = (number: number) => ({
  job_name: `job-${number}`,
  container_id: `c-${number}`,
  type: 'lxc',
  dest: { target: 'local', path: '/backup/b' },
  at: { repeat: 'daily', start: (new Date().getHours() * 60 + 720) % 1440 },
});

async function fill(client: ApiClient, jobs: number): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < jobs) await client.call('POST', '/backup/', job(next++));
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
}

/** A client with one connection by node:http: `fetch` would take as long as the service. */
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

function got(address: string, cookie = ''): Promise<void> {
  return new Promise((resolve, reject) => {
    get(address, { agent, headers: { cookie } }, (answer) => void answer.resume().on('end', resolve).on('error', reject)).on(
      'error',
      reject,
    );
  });
}

const emptyServer = `
const server = require('node:http').createServer((_, answer) => answer.end('{}'));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
`;

/** Measures a request to the service in turns with one to a server that does nothing. */
async function besideNothing(request: () => Promise<void>): Promise<[Spread, Spread]> {
  const child = spawn(process.execPath, [...nodeFlags, '-e', emptyServer], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [port] = await once(createInterface(child.stdout), 'line');
  const figures = await spreadPair(request, () => got(`http://127.0.0.1:${port}/`));
  child.kill();
  await once(child, 'exit');
  return figures;
}

async function memoryOf(pid: number): Promise<number> {
  return Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

/** @param checkout a built checkout: this one, or an earlier one to compare with */
export async function measureJobs(checkout: string, work: string, jobs: number): Promise<JobFigures> {
  const state = join(work, 'many-jobs');
  await rm(state, { recursive: true, force: true });
  await mkdir(state, { recursive: true });
  const figures = await measured(await start(checkout, state), jobs);
  await using again = await start(checkout, state);
  return { ...figures, start: again.ms };
}

async function measured(started: Started, jobs: number): Promise<Omit<JobFigures, 'start'>> {
  await using service = started;
  const { client, pid } = service;
  await fill(client, jobs - samples);
  const post = await spread((n) => client.call('POST', '/backup/', job(jobs + n)));
  const [getOne, nothing] = await besideNothing(() => got(`${client.address}/api/v1/backup/1`, client.cookie));
  const part = await timed(() => client.call('GET', '/backup/?limit=100'));
  const list = await timed(() => client.call('GET', '/backup/'));
  const full = await timed(() => client.call('GET', '/backup/?view=full'));
  return { jobs, post, get: getOne, nothing, part, list, full, memory: await memoryOf(pid) };
}
