/** Runs scripts in the guest over SSH. */
import { execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export class Shell {
  private constructor(
    readonly port: number,
    readonly key: string,
    /** A line for authorized_keys. */
    readonly publicKey: string,
  ) {}

  /** Makes a key pair in `folder`. */
  static async to(port: number, folder: string): Promise<Shell> {
    const key = join(folder, 'admin-key');
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'admin', '-f', key]);
    const { stdout } = await run('ssh-keygen', ['-y', '-f', key]);
    return new Shell(port, key, stdout.trim());
  }

  /** Runs a script. @returns its output @throws Error with its output, when the exit code is not 0 or the time is over */
  run(script: string, limitMs = 120_000): Promise<string> {
    const options = [
      'StrictHostKeyChecking=no',
      `UserKnownHostsFile=${this.key}.known`,
      'LogLevel=ERROR',
      'ConnectTimeout=20',
      'BatchMode=yes',
      // ControlMaster: one handshake serves many scripts, since it takes the guest a second. It ends when the guest closes the connection.
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
    child.stdin.on('error', () => undefined); // the exit code tells the same
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
