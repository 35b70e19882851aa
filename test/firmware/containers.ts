/** Makes containers inside the guest, of the guest's busybox, and compares their data. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ApiClient, notSoon } from '../support/api-client.js';
import type { Shell } from './shell.js';

export interface Subject {
  readonly type: 'lxc' | 'docker';
  readonly name: string;
  /** Creates the container, fills it with data and starts it. */
  make(): Promise<void>;
  /** Deletes and overwrites data, as a user might by mistake. */
  harm(): Promise<void>;
  /** Returns a digest of the data: names, kinds, owners, modes, times, attributes and bytes. */
  digest(): Promise<string>;
  running(): Promise<boolean>;
}

/** A function of sh that makes files of several kinds in $1. */
const fill = `fill() {
  mkdir -p "$1/odd  name"
  head -c 5000000 /dev/urandom >"$1/random"
  printf 'kept\\n' >"$1/odd  name/\u00e9"
  ln "$1/random" "$1/hard"; ln -s random "$1/soft"
  touch -d 2001-02-03T04:05:06.123456789 "$1/odd  name"
  cp /bin/busybox "$1/setuid"; chmod 4755 "$1/setuid"; chown 1234:5678 "$1/odd  name/\u00e9"
  setfattr -n user.colour -v blue "$1/random"
}
`;
const print = `print() { (cd "$1" && tar --sort=name --numeric-owner --xattrs --xattrs-include='*' --format=posix \\
  --pax-option=delete=atime,delete=ctime,exthdr.name=%f -cf - .) | sha256sum; }
`;

export function lxcSubject(shell: Shell): Subject {
  const data = '/var/lib/lxc/web/rootfs/srv/data';
  return {
    type: 'lxc',
    name: 'web',
    async make() {
      await shell.run(
        `${fill}lxc-create -n web -t busybox >/dev/null; echo 'lxc.start.auto = 1' >>/var/lib/lxc/web/config; fill ${data}; lxc-start -n web; lxc-wait -n web -s RUNNING -t 60`,
      );
    },
    async harm() {
      await shell.run(`rm -r ${data}/odd*; echo gone >${data}/random; touch ${data}/rubbish`);
    },
    digest: () => shell.run(`${print}print ${data}`),
    running: async () => (await shell.run('lxc-info -n web -s -H')).trim() === 'RUNNING',
  };
}

export function dockerSubject(shell: Shell): Subject {
  const layer = `$(docker inspect -f '{{.GraphDriver.Data.UpperDir}}' site)`;
  const volume = `$(docker inspect -f '{{range .Mounts}}{{.Source}}{{end}}' site)`;
  return {
    type: 'docker',
    name: 'site',
    async make() {
      await shell.run(`${fill}
        work=$(mktemp -d); mkdir -p $work/bin $work/data; cp /bin/busybox $work/bin/; ln -s busybox $work/bin/sh
        tar -C $work -c . | docker import - site:1 >/dev/null; rm -r $work
        docker run -d --name site --network none --restart unless-stopped -v site-data:/data site:1 /bin/sh -c 'trap exit TERM; while :; do /bin/busybox sleep 1; done' >/dev/null
        fill "${layer}/srv/data"; fill "${volume}"`);
    },
    async harm() {
      await shell.run(`rm -r "${volume}"/odd*; echo gone >"${volume}/random"; docker exec site /bin/busybox rm -r /srv/data`);
    },
    digest: () => shell.run(`${print}print "${layer}/srv/data"; print "${volume}"`),
    running: async () => (await shell.run(`docker inspect -f '{{.State.Running}}' site`)).trim() === 'true',
  };
}

/** Waits a minute for the container to run. @throws Error when it does not */
export async function starts(subject: Subject): Promise<void> {
  for (let tries = 60; !(await subject.running()); tries--) {
    if (tries === 0) throw new Error(`the ${subject.type} container does not run`);
    await sleep(1000);
  }
}

export interface Place {
  readonly target: 'local' | 'remote';
  readonly path: string;
  readonly profile?: number;
}

/** Creates a job that runs only on request. @returns its id */
export function newJob(api: ApiClient, { type, name }: Subject, dest: Place, title: string): Promise<number> {
  const features = ['compress', 'pause'];
  return api.create('backup', { job_name: title, container_id: name, type, dest, at: notSoon(), features });
}

/** Restores the newest run in place. @throws Error when the restore fails */
export async function restore(api: ApiClient, { type, name }: Subject, src: Place, title: string): Promise<void> {
  const id = await api.create('restore', { job_name: `back ${title}`, container_id: name, type, src: { ...src, portfolio: title } });
  await api.ended('restore', id);
}
