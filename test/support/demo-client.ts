import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { serviceArguments } from './service-command.js';

export interface ServiceOptions {
  readonly stateFolder: string;
  readonly shares: Readonly<Record<string, string>>;
  readonly lxcPath?: string;
  readonly dockerSocket?: string;
  /** Added to the command line. */
  readonly flags?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Where its log goes; inherited without. */
  readonly quiet?: boolean;
}

export type Body = Readonly<Record<string, unknown>>;
export const isBody = (value: unknown): value is Body => typeof value === 'object' && value !== null && !Array.isArray(value);
export const part = (value: unknown, key: string): unknown => (isBody(value) ? value[key] : undefined);

/** Whether a job's state is that of a run that is over. */
export function hasEnded(state: unknown): state is Body {
  return isBody(state) && !['init', 'waiting', 'running'].includes(String(state.code)) && state.result !== undefined;
}

/** A time of day that is half a day away: a job made with it runs only when it is told to. */
export function notSoon(): { readonly repeat: 'daily'; readonly start: number } {
  const now = new Date();
  return { repeat: 'daily', start: (now.getHours() * 60 + now.getMinutes() + 720) % 1440 };
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: unknown;
}

const account = { username: 'admin', password: 'a long passphrase for tests' };

/** The service as its own process, and a client that is logged in as its first admin. */
export class DemoService implements AsyncDisposable {
  #cookie = '';
  private constructor(
    readonly child: ChildProcess,
    readonly address: string,
  ) {}

  /** Starts it. On a state folder that has an admin already, started by this class, it logs in again. */
  static async start(options: ServiceOptions): Promise<DemoService> {
    const shares = Object.entries(options.shares).flatMap(([name, folder]) => ['--share', `${name}=${folder}`]);
    const lxc = options.lxcPath === undefined ? [] : ['--lxc-path', options.lxcPath];
    const docker = options.dockerSocket === undefined ? [] : ['--docker-socket', options.dockerSocket];
    const flags = [
      'serve',
      '--state',
      options.stateFolder,
      '--listen',
      '127.0.0.1:0',
      ...shares,
      ...lxc,
      ...docker,
      ...(options.flags ?? []),
    ];
    const child = spawn(process.execPath, [...serviceArguments, ...flags], {
      stdio: ['ignore', 'pipe', options.quiet ? 'ignore' : 'inherit'],
      env: { ...process.env, ...options.environment },
    });
    const service = new DemoService(child, await announcedAddress(child));
    try {
      await service.#logIn(options.stateFolder);
    } catch (error) {
      await service[Symbol.asyncDispose]();
      throw error;
    }
    return service;
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error('the service did not start');
    return this.child.pid;
  }

  async #logIn(stateFolder: string): Promise<void> {
    const code = await readFile(join(stateFolder, 'setup-code'), 'utf8').catch(() => '');
    if (code !== '') await this.call('POST', '/setup', { code: code.trim(), ...account });
    await this.call('POST', '/login', account);
  }

  /** Any request below /api/v1, with the session's cookie; the body goes out as `curl -d` sends it. */
  async ask(method: string, path: string, body?: Body | string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    const answer = await fetch(`${this.address}/api/v1${path}`, {
      method,
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        ...(this.#cookie === '' ? {} : { cookie: this.#cookie }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const cookies = answer.headers.getSetCookie().map((line) => line.split(';')[0]);
    if (cookies.length > 0) this.#cookie = cookies.join('; ');
    const text = await answer.text();
    return { status: answer.status, headers: answer.headers, text, json: text === '' ? undefined : JSON.parse(text) };
  }

  /** The answer's JSON. @throws Error with the service's own message */
  async call(method: string, path: string, body?: Body): Promise<unknown> {
    const { status, text, json } = await this.ask(method, path, body);
    if (status >= 400) throw new Error(`${method} ${path}: ${status} ${text}`);
    return json;
  }

  /** The id of the job that was made. */
  async create(kind: 'backup' | 'restore', body: Body): Promise<number> {
    const id = part(await this.call('POST', `/${kind}`, body), 'id');
    if (typeof id !== 'number') throw new Error(`POST /${kind} answered without an id`);
    return id;
  }

  /** Waits until no run of the job goes on any more; its state in full, whatever the result. */
  async settled(kind: 'backup' | 'restore', id: number, limitMs = 300_000): Promise<Body> {
    const until = Date.now() + limitMs;
    while (Date.now() < until) {
      if (hasEnded(part(await this.call('GET', `/${kind}/${id}`), 'state'))) {
        // the light answer may be older than what is asked for now
        const state = part(await this.call('GET', `/${kind}/${id}?view=full`), 'state');
        if (hasEnded(state)) return state;
      }
      await sleep(50);
    }
    throw new Error(`${kind} ${id} did not end in ${limitMs / 1000} s`);
  }

  /** As settled. @throws Error when the run failed */
  async ended(kind: 'backup' | 'restore', id: number, limitMs = 300_000): Promise<Body> {
    const state = await this.settled(kind, id, limitMs);
    if (state.result !== 0) throw new Error(`${kind} ${id} failed: ${JSON.stringify(state)}`);
    return state;
  }

  /** Runs a backup now and waits for its end. @throws Error when the run failed */
  async backUp(id: number): Promise<Body> {
    await this.call('PUT', `/backup/${id}/run`);
    return this.ended('backup', id);
  }

  /** As a power cut ends it: only the process itself; its children see to themselves. */
  async kill(): Promise<void> {
    const closed = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await closed;
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

/** Its first line is `listening on http://…`; what it says later is read and dropped. */
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
