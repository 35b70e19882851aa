import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../core/cli/main.js', import.meta.url));

export interface ServiceOptions {
  readonly stateFolder: string;
  readonly shares: Readonly<Record<string, string>>;
  readonly lxcPath?: string;
  readonly dockerSocket?: string;
}

export type Body = Readonly<Record<string, unknown>>;
export const isBody = (value: unknown): value is Body => typeof value === 'object' && value !== null && !Array.isArray(value);
export const part = (value: unknown, key: string): unknown => (isBody(value) ? value[key] : undefined);

/** The service as its own process, and a client that is logged in as its first admin. */
export class DemoService implements AsyncDisposable {
  private cookie = '';
  private constructor(
    private readonly child: ChildProcess,
    readonly address: string,
  ) {}

  static async start(options: ServiceOptions): Promise<DemoService> {
    const shares = Object.entries(options.shares).flatMap(([name, folder]) => ['--share', `${name}=${folder}`]);
    const lxc = options.lxcPath === undefined ? [] : ['--lxc-path', options.lxcPath];
    const docker = options.dockerSocket === undefined ? [] : ['--docker-socket', options.dockerSocket];
    const args = [main, 'serve', '--state', options.stateFolder, '--listen', '127.0.0.1:0', ...shares, ...lxc, ...docker];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const service = new DemoService(child, await announcedAddress(child));
    try {
      await service.makeAdmin(options.stateFolder);
    } catch (error) {
      await service[Symbol.asyncDispose]();
      throw error;
    }
    return service;
  }

  private async makeAdmin(stateFolder: string): Promise<void> {
    const account = { username: 'admin', password: `demo-${process.pid}-long-enough` };
    const code = (await readFile(join(stateFolder, 'setup-code'), 'utf8')).trim();
    await this.call('POST', '/setup', { code, ...account });
    await this.call('POST', '/login', account);
  }

  /** The answer's JSON. @throws Error with the service's own message */
  async call(method: string, path: string, body?: Body): Promise<unknown> {
    const answer = await fetch(`${this.address}/api/v1${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...(this.cookie === '' ? {} : { cookie: this.cookie }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const cookies = answer.headers.getSetCookie().map((line) => line.split(';')[0]);
    if (cookies.length > 0) this.cookie = cookies.join('; ');
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  }

  /** The id of the job that was made. */
  async create(kind: 'backup' | 'restore', body: Body): Promise<number> {
    const id = part(await this.call('POST', `/${kind}`, body), 'id');
    if (typeof id !== 'number') throw new Error(`POST /${kind} answered without an id`);
    return id;
  }

  /** Waits until the job's run has ended; its state in full. @throws Error when the run failed */
  async ended(kind: 'backup' | 'restore', id: number, limitMs = 300_000): Promise<Body> {
    const until = Date.now() + limitMs;
    while (Date.now() < until) {
      const state = part(await this.call('GET', `/${kind}/${id}?view=full`), 'state');
      const busy = ['init', 'waiting', 'running'].includes(String(part(state, 'code')));
      if (!busy && isBody(state) && state.result !== undefined) {
        if (state.result !== 0) throw new Error(`${kind} ${id} failed: ${JSON.stringify(state)}`);
        return state;
      }
      await sleep(100);
    }
    throw new Error(`${kind} ${id} did not end in ${limitMs / 1000} s`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const closed = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    const killer = setTimeout(() => this.child.kill('SIGKILL'), 15_000);
    await closed;
    clearTimeout(killer);
  }
}

/** Its first line is `listening on http://…`; what it says later is passed on. */
async function announcedAddress(child: ChildProcess): Promise<string> {
  if (!child.stdout) throw new Error('the service has no output');
  const lines = createInterface(child.stdout);
  const gone = once(child, 'exit').then(([code]) => {
    throw new Error(`the service ended at start with ${code}`);
  });
  gone.catch(() => undefined);
  const [line] = await Promise.race([once(lines, 'line'), gone]);
  const address = /^listening on (http:\/\/\S+?)\/?$/.exec(String(line))?.[1];
  if (address === undefined) {
    child.kill('SIGKILL');
    throw new Error(`the service began with: ${line}`);
  }
  return address;
}
