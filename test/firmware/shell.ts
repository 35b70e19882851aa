/** The guest's shell, over the SSH that its admin has switched on. */
import { execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export class Shell {
  private constructor(
    readonly port: number,
    readonly key: string,
    /** For authorized_keys. */
    readonly publicKey: string,
  ) {}

  /** With a key pair made in `folder`. */
  static async to(port: number, folder: string): Promise<Shell> {
    const key = join(folder, 'admin-key');
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'admin', '-f', key]);
    const { stdout } = await run('ssh-keygen', ['-y', '-f', key]);
    return new Shell(port, key, stdout.trim());
  }

  /** What a script prints. @throws Error with all that it said, when it ends with another code than 0 or not in time */
  run(script: string, limitMs = 120_000): Promise<string> {
    const options = [
      'StrictHostKeyChecking=no',
      `UserKnownHostsFile=${this.key}.known`,
      'LogLevel=ERROR',
      'ConnectTimeout=20',
      'BatchMode=yes',
      // One handshake for many scripts, and a cheap one: it costs the machine a second. It ends with the guest's side.
      'KexAlgorithms=curve25519-sha256',
      'ControlMaster=auto',
      'ControlPersist=600',
      `ControlPath=${this.key}.control`,
    ];
    const args = [...options.flatMap((option) => ['-o', option]), '-i', this.key, '-p', `${this.port}`, 'root@127.0.0.1', 'sh -eu -s'];
    const child = spawn('ssh', args, { stdio: ['pipe', 'pipe', 'pipe'], timeout: limitMs, killSignal: 'SIGKILL' });
    let [out, said] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    child.stdin.on('error', () => undefined); // its exit code tells
    child.stdin.end(script);
    return new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code) => {
        if (code === 0) resolve(out);
        else reject(new Error(`${script.slice(0, 200)}\nended with ${code}: ${said}${out.slice(-500)}`));
      });
    });
  }
}
