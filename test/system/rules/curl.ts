/** curl with a cookie file, like the clients of the captured conversation. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { DemoService } from '../../support/demo-client.js';

const run = promisify(execFile);

export interface Told {
  readonly status: number;
  /** By lower-case name, with all lines of a header. */
  readonly headers: Readonly<Record<string, readonly string[]>>;
  readonly text: string;
  readonly json: unknown;
}

export interface Request {
  /** Body, sent with -d and so as application/x-www-form-urlencoded. */
  readonly body?: string;
  readonly headers?: readonly string[];
  readonly flags?: readonly string[];
  /** Sends no cookie. */
  readonly stranger?: boolean;
}

/** The first account of the appliance. */
export const account = { username: 'admin', password: 'a long passphrase for tests' } as const;

const isHeaders = (value: unknown): value is Record<string, string[]> => typeof value === 'object' && value !== null;

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export class Curl {
  /** @param folder of cookies.txt */
  constructor(
    readonly folder: string,
    readonly service: () => DemoService,
  ) {}

  /** Logs in with a form, as a browser does. Writes the cookie file. */
  async logIn(): Promise<Told> {
    const form = Object.entries(account).flatMap(([key, value]) => ['--data-urlencode', `${key}=${value}`]);
    return this.ask('POST', '/login', { flags: ['-c', 'cookies.txt', ...form] });
  }

  /** Sends a request below /api/v1, with the path unchanged. */
  async ask(method: string, path: string, o: Request = {}): Promise<Told> {
    const args = [
      '-sq',
      '--path-as-is',
      `-X${method}`,
      ...(o.stranger ? [] : ['-b', 'cookies.txt']),
      ...(o.body === undefined ? [] : ['-d', o.body]),
      ...(o.headers ?? []).flatMap((header) => ['-H', header]),
      ...(o.flags ?? []),
      ...['-w', '%{stderr}%{http_code}\n%{header_json}'],
      `${this.service().address}/api/v1${path}`,
    ];
    const { stdout, stderr } = await run('curl', args, { cwd: this.folder, maxBuffer: 1 << 24 });
    const [status = '', ...rest] = stderr.split('\n');
    const headers = parsed(rest.join('\n'));
    const told = { status: Number(status), headers: isHeaders(headers) ? headers : {}, text: stdout, json: parsed(stdout) };
    this.service().check(method, path, { status: told.status, type: told.headers['content-type']?.[0] ?? '', json: told.json });
    return told;
  }

  /** Runs a captured command in a shell with the variables QIP and QPORT. @returns its output */
  async printed(command: string): Promise<string> {
    const { hostname, port } = new URL(this.service().address);
    const env = { PATH: process.env.PATH, QIP: hostname, QPORT: port };
    return (await run('bash', ['-c', command], { cwd: this.folder, env })).stdout;
  }
}

/** Makes a client for a suite and logs in. The cookie file lies in the appliance's folder. */
export async function curlOf(a: { readonly folder: string; readonly service: DemoService }): Promise<Curl> {
  const curl = new Curl(join(a.folder, '.'), () => a.service);
  const { status, text } = await curl.logIn();
  if (status !== 200) throw new Error(`the login was refused: ${text}`);
  return curl;
}
