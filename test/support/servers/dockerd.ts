import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, open, readFile, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Client, createClient } from '../../../plugins/runtimes/docker/engine/client.js';
import { fields, items, text } from '../../../plugins/runtimes/docker/engine/json.js';
import { childOutput, startChild } from '../../../plugins/shared/primitives/child.js';

/** A Docker engine of the test's own, without a registry. Dispose removes everything of it. */
export interface Dockerd extends AsyncDisposable {
  readonly socket: string;
  readonly folder: string;
  readonly client: Client;
  /** Makes an image that holds busybox and /seed/file. @returns its id */
  sampleImage(tag: string): Promise<string>;
  /** Makes an image of a folder that holds a root file system. @returns its id */
  importImage(root: string, tag: string): Promise<string>;
  /** Creates and starts a container. `body` is that of Docker's API. */
  run(name: string, body: Readonly<Record<string, unknown>>): Promise<string>;
  /** Runs a shell command in a container and waits for its end. @returns what it printed @throws Error when it failed */
  exec(name: string, command: string): Promise<string>;
  removeContainer(name: string): Promise<void>;
}

const startLimit = 30_000; // 1.5 s as measured; slow machines and many tests at once

async function waitUntilUp(client: Client, log: string): Promise<void> {
  for (const end = Date.now() + startLimit; ; await delay(100)) {
    const up = await client.text('GET', '/_ping').then(
      () => true,
      () => false,
    );
    if (up) return;
    if (Date.now() > end) throw new Error(`dockerd does not start: ${(await readFile(log, 'utf8')).slice(-2000)}`);
  }
}

async function importSample(client: Client, folder: string, tag: string): Promise<string> {
  const root = await mkdtemp(join(folder, 'image-'));
  await mkdir(join(root, 'bin'));
  await mkdir(join(root, 'seed'));
  await copyFile('/bin/busybox', join(root, 'bin/busybox'));
  for (const applet of ['sh', 'sleep', 'rm', 'mkdir', 'chmod', 'true']) await symlink('busybox', join(root, 'bin', applet));
  await childOutput('sh', ['-c', `echo seed > ${root}/seed/file`]);
  return importImage(client, root, tag);
}

async function importImage(client: Client, root: string, tag: string): Promise<string> {
  const tar = startChild('tar', ['-C', root, '-c', '.'], { stdio: ['ignore', 'pipe', 'inherit'] });
  if (!tar.stdout) throw new Error('tar has no output');
  const [repo, version] = tag.split(':');
  const said = await client.text('POST', `/images/create?fromSrc=-&repo=${repo}&tag=${version}`, { source: tar.stdout });
  const id = /sha256:[0-9a-f]{64}/.exec(said)?.[0];
  if (id === undefined) throw new Error(`no image was made: ${said}`);
  return id;
}

async function removeAll(client: Client): Promise<void> {
  for (const one of items(await client.json('GET', '/containers/json?all=1'))) {
    await client.json('DELETE', `/containers/${text(fields(one).Id)}?force=1&v=1`);
  }
  await client.json('POST', '/networks/prune'); // their bridges would stay on this machine
}

async function unmountBelow(folder: string): Promise<void> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  const mounts = table.split('\n').map((line) => line.split(' ')[4] ?? '');
  for (const mount of mounts.filter((path) => path.startsWith(`${folder}/`)).reverse()) await childOutput('umount', ['-l', mount]);
}

/** Starts an engine in a folder of its own. It has no default bridge, so that engines don't clash. User networks work. */
export async function startDockerd(more: readonly string[] = []): Promise<Dockerd> {
  const folder = await mkdtemp('/tmp/dockerd-'); // short: a socket's path has 107 characters at most
  const socket = `${folder}/s`;
  const log = await open(`${folder}/log`, 'w');
  const paths = ['--host', `unix://${socket}`, '--data-root', `${folder}/d`, '--exec-root', `${folder}/e`, '--pidfile', `${folder}/p`];
  const args = ['--pdeathsig', 'TERM', '--', 'dockerd', ...paths, '--bridge=none', '--iptables=false', '--ip6tables=false', ...more];
  const child = spawn('setpriv', args, { stdio: ['ignore', log.fd, log.fd] });
  const ended = once(child, 'exit');
  await log.close();
  const client = createClient(socket);
  const stop = async () => {
    await removeAll(client).catch(() => undefined);
    child.kill('SIGTERM');
    await ended;
    await unmountBelow(folder);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await waitUntilUp(client, `${folder}/log`);
  } catch (error) {
    await stop();
    throw error;
  }
  return { socket, folder, client, [Symbol.asyncDispose]: stop, ...verbs(client, folder) };
}

function verbs(client: Client, folder: string): Pick<Dockerd, 'sampleImage' | 'importImage' | 'run' | 'exec' | 'removeContainer'> {
  return {
    sampleImage: (tag) => importSample(client, folder, tag),
    importImage: (root, tag) => importImage(client, root, tag),
    async run(name, body) {
      const id = text(fields(await client.json('POST', `/containers/create?name=${name}`, { body })).Id);
      await client.json('POST', `/containers/${id}/start`);
      return id;
    },
    async exec(name, command) {
      const Cmd = ['/bin/sh', '-c', command];
      const made = await client.json('POST', `/containers/${name}/exec`, {
        body: { Cmd, AttachStdout: true, AttachStderr: true, Tty: true },
      });
      const id = text(fields(made).Id);
      const said = await client.text('POST', `/exec/${id}/start`, { body: { Detach: false, Tty: true } }); // answers when the command ended
      const { ExitCode } = fields(await client.json('GET', `/exec/${id}/json`));
      if (ExitCode !== 0) throw new Error(`${command} ended with ${ExitCode}: ${said.trim()}`);
      return said;
    },
    async removeContainer(name) {
      await client.json('DELETE', `/containers/${name}?force=1&v=1`).catch(() => undefined);
      for (const volume of items(fields(await client.json('GET', '/volumes')).Volumes).map((one) => text(fields(one).Name))) {
        await client.json('DELETE', `/volumes/${volume}`).catch(() => undefined); // those in use refuse
      }
    },
  };
}
