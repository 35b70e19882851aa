/** A whole appliance for a suite: containers, a share, and the service in a process of its own. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { DemoService, type ServiceOptions } from './demo-client.js';
import { destroyLxc, makeLxcContainer, makeLxcPath, startLxc } from './lxc.js';
import { type Dockerd, startDockerd } from './servers/dockerd.js';

export interface Appliance {
  readonly folder: string;
  /** The host's folder of share `test`. */
  readonly share: string;
  readonly lxcPath: string;
  readonly stateFolder: string;
  readonly service: DemoService;
  /** Stops or kills the service, and starts it again on the same state. */
  restart(o?: { readonly kill?: boolean; readonly stateFolder?: string }): Promise<void>;
  /** Makes a busybox container, and starts it unless the options say otherwise. The appliance destroys it at its end. */
  lxc(name: string, o?: { readonly shifted?: boolean; readonly lines?: readonly string[]; readonly stopped?: boolean }): Promise<void>;
  /** Registers a container that a restore will make, so that the appliance destroys it at its end. */
  alsoDestroy(name: string): void;
}

type Owner = Pick<Test, 'teardown'>;

export async function makeAppliance(t: Owner, o: Partial<ServiceOptions> & { readonly dockerd?: Dockerd } = {}): Promise<Appliance> {
  const folder = await mkdtemp(join(tmpdir(), 'appliance-'));
  const lxcPath = await makeLxcPath();
  const share = o.shares?.test ?? join(folder, 'share');
  const names = new Set<string>();
  await mkdir(share, { recursive: true });
  const options = { quiet: true, shares: { test: share }, lxcPath, ...(o.dockerd && { dockerSocket: o.dockerd.socket }), ...o };
  let stateFolder = o.stateFolder ?? join(folder, 'state');
  let service = await DemoService.start({ ...options, stateFolder });
  t.teardown(async () => {
    await service[Symbol.asyncDispose]();
    for (const name of names) await destroyLxc(lxcPath, name);
    for (const path of [folder, lxcPath]) await rm(path, { recursive: true, force: true, maxRetries: 5 });
  });
  return {
    folder,
    share,
    lxcPath,
    get stateFolder() {
      return stateFolder;
    },
    get service() {
      return service;
    },
    async restart(how = {}) {
      await (how.kill ? service.kill() : service[Symbol.asyncDispose]());
      stateFolder = how.stateFolder ?? stateFolder;
      service = await DemoService.start({ ...options, stateFolder });
    },
    async lxc(name, container = {}) {
      names.add(name);
      await makeLxcContainer(lxcPath, name, container);
      if (!container.stopped) await startLxc(lxcPath, name);
    },
    alsoDestroy: (name) => void names.add(name),
  };
}

/** A Docker engine that ends with the suite. */
export async function ownDockerd(t: Owner, flags: readonly string[] = []): Promise<Dockerd> {
  const dockerd = await startDockerd(flags);
  t.teardown(() => dockerd[Symbol.asyncDispose]());
  return dockerd;
}
