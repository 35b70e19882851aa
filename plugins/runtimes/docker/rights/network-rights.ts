/** Rights over the host from a container's networks. A missing network is created as the run describes it. A driver other than
 *  `bridge` reaches devices of the host, and the subnet becomes a route of the host. */
import { BlockList } from 'node:net';
import type { Grant } from '../../../../core/contract/index.js';
import { quote, showJson } from '../../../shared/grants.js';
import type { Inspect } from '../engine/inspect.js';
import { type Fields, fields, isFields, items, text } from '../engine/json.js';
import { subnetOf } from '../engine/networks.js';
import { userNetworks } from '../restore/create-request.js';
import { unknownFields } from './settings.js';

const bridgeOptions = new Set([
  'com.docker.network.bridge.enable_icc',
  'com.docker.network.bridge.enable_ip_masquerade',
  'com.docker.network.driver.mtu',
]);
const ranges = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'];

interface Subnet {
  readonly address: string;
  readonly length: number;
  readonly holds: (address: string) => boolean;
}

const familyOf = (address: string) => (address.includes(':') ? 'ipv6' : 'ipv4');

/** undefined: no subnet. */
function parseSubnet(value: unknown): Subnet | undefined {
  const [, address, digits] = /^([0-9a-fA-F.:]+)\/(\d{1,3})$/.exec(text(value)) ?? [];
  if (address === undefined) return undefined;
  const list = new BlockList();
  const length = Number(digits);
  try {
    list.addSubnet(address, length, familyOf(address));
  } catch {
    return undefined; // BlockList's parser refuses it
  }
  return { address, length, holds: (one) => list.check(one, familyOf(one)) };
}

/** Private, and apart from this machine's own subnets. */
function isOrdinarySubnet(value: unknown, own: readonly string[]): boolean {
  const subnet = parseSubnet(value);
  if (subnet === undefined) return false;
  const isIn = (range: string) => {
    const wide = parseSubnet(range);
    return wide?.holds(subnet.address) === true && subnet.length >= wide.length;
  };
  const meets = (range: string) => {
    const [address = ''] = range.split('/');
    return subnet.holds(address) || parseSubnet(range)?.holds(subnet.address) === true;
  };
  return ranges.some(isIn) && !own.some(meets);
}

function ipamRights(name: string, value: unknown, own: readonly string[]): Grant[] {
  const { Driver, Config, Options, ...rest } = fields(value);
  const subnets = items(Config).map((one) => fields(one).Subnet);
  const known = new Set(['Subnet', 'Gateway', 'IPRange', 'AuxiliaryAddresses', 'AuxAddress']);
  return [
    ...unknownFields(`network ${name} IPAM`, { ...rest, Options, ...(Driver !== 'default' && { Driver }) }, () => false),
    ...items(Config).flatMap((one) => unknownFields(`network ${name} IPAM.Config`, fields(one), (field) => known.has(field))),
    ...(Config === undefined || Config === null || Array.isArray(Config)
      ? []
      : [{ code: 'network', what: `${name} IPAM ${showJson(Config)}` }]),
    ...subnets.filter((subnet) => subnet !== undefined && !isOrdinarySubnet(subnet, own)).map((one) => subnetGrant(name, one)),
  ];
}

const subnetGrant = (name: string, subnet: unknown): Grant => ({ code: 'network', what: `${name} subnet ${showJson(subnet)}` });

function madeRights(name: string, told: Fields, own: readonly string[]): Grant[] {
  const { Driver = 'bridge', Options, IPAM } = told;
  const options = isFields(Options) ? Object.entries(Options).filter(([option]) => !bridgeOptions.has(option)) : [];
  return [
    ...(Driver === 'bridge' ? [] : [{ code: 'network', what: `${name} driver ${showJson(Driver)}` }]),
    ...options.map(([option, value]) => ({ code: 'network', what: `${name} option ${quote(option)} = ${showJson(value)}` })),
    ...(IPAM === undefined ? [] : ipamRights(name, IPAM, own)),
  ];
}

/** @param own subnets of this machine's own interfaces, as `192.168.1.5/24` */
export function networkRights(inspect: Inspect, own: readonly string[]): Grant[] {
  return [...userNetworks(inspect)].flatMap(([network, endpoint]) => {
    const name = quote(network);
    const told = inspect.beside.find((one) => text(one.Name) === network && one.IPAM !== undefined) ?? {};
    const fixed = subnetOf(endpoint);
    return [
      ...madeRights(name, told, own),
      ...(fixed === undefined || isOrdinarySubnet(fixed, own) ? [] : [subnetGrant(name, fixed)]),
      ...unknownFields(`network ${name} DriverOpts`, fields(endpoint.DriverOpts), () => false),
    ];
  });
}
