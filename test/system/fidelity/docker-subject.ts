/** A Docker container with every kind of source, each with files that backups often lose. */
import { appendFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fields, items, text } from '../../../plugins/runtimes/docker/engine/json.js';
import { changeTree, makeNastyTree } from '../../support/nasty-tree.js';
import type { Dockerd } from '../../support/servers/dockerd.js';
import { type Places, singleFile } from './bench.js';
import { makeOddFile } from './lxc-subject.js';
import { changeSmallTree, changeTreeAgain, makeSmallTree } from './tree-changes.js';

export interface DockerSubject {
  readonly name: string;
  /** Paths of a container's root (its merged view) and its volumes, from inspect. */
  places(container?: string): Promise<Places>;
  change(round: 1 | 2): Promise<void>;
  /** The engine's list of changes to the image (docker diff). */
  diff(container?: string): Promise<readonly string[]>;
}

/** Names of the mounts by their mount point. */
const volumes: Readonly<Record<string, string>> = { '/data': 'data', '/host': 'host', '/read-only': 'read-only', '/app.conf': 'file' };

async function placesOf({ client }: Dockerd, name: string): Promise<Places> {
  const inspect = fields(await client.json('GET', `/containers/${name}/json`));
  const places: Record<string, string> = { rootfs: join(text(fields(fields(inspect.GraphDriver).Data).MergedDir), 'inner') };
  for (const mount of items(inspect.Mounts).map(fields)) {
    const volume = volumes[text(mount.Destination)];
    const source = text(mount.Source);
    if (volume !== undefined) places[volume] = volume === 'file' ? singleFile(source) : source;
  }
  return places;
}

async function diffOf({ client }: Dockerd, name: string): Promise<readonly string[]> {
  const changes = items(await client.json('GET', `/containers/${name}/changes`)).map(fields);
  return changes.map(({ Kind, Path }) => `${Kind} ${Path}`).sort();
}

/** Makes and starts it. `image` is its tag. */
export async function makeDockerSubject(docker: Dockerd, folder: string, name: string): Promise<DockerSubject> {
  const of = (what: string) => join(folder, `${what}-of-${name}`);
  for (const what of ['host', 'read-only', 'file']) await mkdir(of(what));
  await makeOddFile(join(of('file'), 'app.conf'));
  await docker.sampleImage('sample:1');
  const Binds = [
    `${name}-data:/data`,
    `${of('host')}:/host`,
    `${of('read-only')}:/read-only:ro`,
    `${join(of('file'), 'app.conf')}:/app.conf`,
  ];
  const body = { Image: 'sample:1', Cmd: ['/bin/sleep', '100000'], StopSignal: 'SIGKILL', HostConfig: { NetworkMode: 'none', Binds } };
  await docker.run(name, body);
  await docker.exec(name, 'rm /seed/file; mkdir /inner; chmod 4755 /bin/sleep');
  const { rootfs = '', data = '' } = await placesOf(docker, name);
  const trees = { [rootfs]: true, [join(data, 'inner')]: true, [of('host')]: false, [of('read-only')]: false };
  for (const [tree, isNasty] of Object.entries(trees)) await (isNasty ? makeNastyTree(tree) : makeSmallTree(tree));
  return {
    name,
    places: (container = name) => placesOf(docker, container),
    diff: (container = name) => diffOf(docker, container),
    async change(round) {
      // A replaced container has its root in another layer.
      const { rootfs: now = '', data: volume = '' } = await placesOf(docker, name);
      const changeNasty = round === 1 ? changeTree : changeTreeAgain;
      for (const tree of [now, join(volume, 'inner')]) await changeNasty(tree);
      for (const what of ['host', 'read-only']) await changeSmallTree(of(what), round);
      await appendFile(join(of('file'), 'app.conf'), `changed ${round}\n`);
    },
  };
}
