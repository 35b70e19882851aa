/** Another host on this machine: a network namespace, connected by a pair of virtual Ethernet devices (veth). The test can cut it off. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import type { Test } from 'tap';

const run = promisify(execFile);

export interface Network {
  /** Name of the namespace. */
  readonly name: string;
  /** Address of that host for this machine. */
  readonly address: string;
  cut(): Promise<void>;
  mend(): Promise<void>;
}

/** Makes the host. The test removes it at its end. */
export async function makeNetwork(t: Pick<Test, 'teardown'>): Promise<Network> {
  const id = randomBytes(3);
  const name = `cb-${id.toString('hex')}`;
  const device = `cb${id.toString('hex')}`;
  const net = `10.${64 + ((id[0] ?? 0) % 64)}.${id[1]}`;
  const ip = (...args: string[]) => run('ip', args);
  await ip('netns', 'add', name);
  t.teardown(() => ip('netns', 'del', name)); // removes both devices, too
  await ip('link', 'add', device, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
  await ip('addr', 'add', `${net}.1/24`, 'dev', device);
  await ip('link', 'set', device, 'up');
  await ip('-n', name, 'addr', 'add', `${net}.2/24`, 'dev', 'eth0');
  for (const inside of ['lo', 'eth0']) await ip('-n', name, 'link', 'set', inside, 'up');
  return {
    name,
    address: `${net}.2`,
    // on the other side, so that this machine does not notice: its packets get no answer
    cut: async () => void (await ip('-n', name, 'link', 'set', 'eth0', 'down')),
    mend: async () => void (await ip('-n', name, 'link', 'set', 'eth0', 'up')),
  };
}

/** A command and its arguments, to run on that host; on this machine when there is none. */
export function onHost(network: Network | undefined, command: string, args: readonly string[]): [string, string[]] {
  return network === undefined ? [command, [...args]] : ['ip', ['netns', 'exec', network.name, command, ...args]];
}
