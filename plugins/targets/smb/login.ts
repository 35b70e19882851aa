import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { constants, type FileHandle, open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { PluginError } from '../../../core/contract/index.js';
import { startChild } from '../../shared/primitives/child.js';
import type { Peer } from './failure.js';

export interface SmbOptions {
  readonly host: string;
  readonly port?: number;
  /** May be DOMAIN\user. */
  readonly username: string;
  readonly password: string;
  readonly domain?: string;
  /** <share>/<folder>/...; '' makes the first part of each path the share. */
  readonly base?: string;
  readonly encrypt?: boolean;
}

/** Replaces the machine's smb.conf, which may allow anything. Rules out SMB 1 and unsigned messages, and so guests. */
const configuration = `[global]
client min protocol = SMB2_02
client max protocol = SMB3
client signing = required
client ipc min protocol = SMB2_02
client ipc max protocol = SMB3
client ipc signing = required
client use kerberos = off
disable netbios = yes
name resolve order = host
unix charset = UTF-8
log level = 1
private dir = /dev/null
lock directory = /dev/null
state directory = /dev/null
cache directory = /dev/null
`;

/** Longest password that smbclient reads from a descriptor, in bytes. */
const pipeLimit = 127;
const [configFd, loginFd, passwordFd] = [3, 4, 5];
/** O_TMPFILE of Linux, which Node does not name. */
const temporary = 0o20200000;

/** Starts smbclient as the configured user. Its configuration and login are unnamed files (O_TMPFILE), so that nothing stays on the
 *  disk however the process ends. The password goes through a pipe; only one too long for that is in such a file. */
export class Login implements AsyncDisposable {
  private constructor(
    readonly options: SmbOptions,
    readonly config: FileHandle,
    readonly account: FileHandle,
  ) {}

  /** @throws PluginError invalid, io */
  static async open(options: SmbOptions, folder: string): Promise<Login> {
    const account = accountText(options);
    try {
      const config = await nameless(folder, configuration);
      return new Login(options, config, await nameless(folder, account));
    } catch (cause) {
      throw new PluginError('io', `${folder}: no file could be made there`, { cause });
    }
  }
  get port(): number {
    return this.options.port ?? 445;
  }
  peer(share: string): Peer {
    return { host: this.options.host, port: this.port, user: this.options.username, share };
  }
  /** `//host/share`, with an IPv6 address without brackets. */
  service(share: string): string {
    return `//${this.options.host.replace(/^\[(.*)\]$/, '$1')}/${share}`;
  }
  /** With byteInput, smbclient reads its input byte by byte, so that it does not read ahead past a line. */
  start(args: readonly string[], o: { readonly byteInput?: boolean; readonly timeout: number }): ChildProcess {
    const { encrypt = false } = this.options;
    const all = [
      ...['smbclient', '-s', `/proc/self/fd/${configFd}`, '-A', `/proc/self/fd/${loginFd}`, '-p', `${this.port}`],
      ...['-t', `${o.timeout}`, '-q', '-E', `--client-protection=${encrypt ? 'encrypt' : 'sign'}`, ...args],
    ];
    const [command = '', ...rest] = o.byteInput ? ['stdbuf', '-i0', ...all] : all;
    const child = startChild(command, rest, {
      stdio: ['pipe', 'pipe', 'pipe', this.config.fd, this.account.fd, 'pipe'],
      cwd: '/',
      // clear variables that could name a user or a password; listed times are in the zone TZ
      env: { PASSWD_FD: `${passwordFd}`, PASSWD_FILE: undefined, PASSWD: undefined, USER: undefined, LOGNAME: undefined, TZ: 'UTC' },
    });
    this.#givePassword(child);
    return child;
  }
  #givePassword(child: ChildProcess): void {
    const pipe = child.stdio[passwordFd];
    if (pipe === null || pipe === undefined || !('write' in pipe)) return;
    pipe.on('error', () => undefined); // a child that exits at once does not read it
    const { password } = this.options;
    // smbclient asks twice
    pipe.end(isLong(password) ? '\n' : `${password}\n${password}\n`);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.config.close();
    await this.account.close();
  }
}

const isLong = (password: string): boolean => Buffer.byteLength(password) > pipeLimit;

/** Text of Samba's credentials file. It has no quotes; blanks before a value are dropped. @throws PluginError invalid */
function accountText({ username, password, domain = '' }: SmbOptions): string {
  for (const text of [username, password, domain]) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they would begin a line of their own
    if (/[\u0000\r\n]/.test(text)) throw new PluginError('invalid', 'user name, password and domain must not hold line ends or NUL');
  }
  if (username.trim() === '') throw new PluginError('invalid', 'a user name is needed: guests are not used');
  if (isLong(password) && /^[ \t]/.test(password))
    throw new PluginError('invalid', `a password of more than ${pipeLimit} bytes must not begin with a blank; choose another`);
  const cut = username.indexOf('\\');
  const user = username.slice(cut + 1);
  const realm = cut > 0 ? username.slice(0, cut) : domain;
  const lines = [`username = ${user}`, ...(realm === '' ? [] : [`domain = ${realm}`])];
  return [...lines, ...(isLong(password) ? [`password = ${password}`] : []), ''].join('\n');
}

/** An open file without a name (O_TMPFILE); where the file system lacks that, a file that is unlinked at once. */
async function nameless(folder: string, text: string): Promise<FileHandle> {
  const file = await open(folder, temporary | constants.O_RDWR, 0o600).catch(async () => {
    const path = join(folder, `.smb-${randomBytes(8).toString('hex')}`);
    const named = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
    await unlink(path);
    return named;
  });
  await file.write(text);
  return file;
}
