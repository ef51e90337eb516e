/** MidoNet's own bytes. @source produced with MidoNet's .proto files and protobuf-java; sizes and digests are in the tests */
export const NEUTRON_PORT = String.raw`id {
  msb: 6705644472044571502
  lsb: 11322344664447822101
}
network_id {
  msb: 11728753282862894935
  lsb: 10272847489897475912
}
tenant_id: "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
name: "web \"\303\251\" it\'s"
mac_address: "fa:16:3e:12:34:56"
admin_state_up: true
fixed_ips {
  ip_address {
    version: V4
    address: "192.0.2.17"
  }
  subnet_id {
    msb: 14114827494920374632
    lsb: 10914656996553908977
  }
}
device_owner: COMPUTE
device_id: "7b1c9d2e-3f40-4a51-8b62-c7d8e9fa0b1c"
status: "ACTIVE"
security_groups {
  msb: 2246800662264956824
  lsb: 9842518810263020273
}
host_id: "compute-1"
port_security_enabled: true
`;

export const MINIMAL_NEUTRON_PORT = `id {
  msb: 6705644472044571502
  lsb: 11322344664447822101
}
tenant_id: "t1"
mac_address: "fa:16:3e:12:34:56"
fixed_ips {
  ip_address {
    version: V4
    address: "10.0.0.5"
  }
}
device_id: "7b1c9d2e-3f40-4a51-8b62-c7d8e9fa0b1c"
`;

export const PORT = `id {
  msb: 6705644472044571502
  lsb: 11322344664447822101
}
network_id {
  msb: 11728753282862894935
  lsb: 10272847489897475912
}
tunnel_key: 12
host_id {
  msb: 2246800662264956824
  lsb: 9842518810263020273
}
interface_name: "tap5d0f3c1e-8a"
admin_state_up: true
previous_host_id {
  msb: 1
  lsb: 2
}
qos_policy_id {
  msb: 3
  lsb: 4
}
`;

export const HOST = `id {
  msb: 2246800662264956824
  lsb: 9842518810263020273
}
name: "compute-1"
tunnel_zone_ids {
  msb: 1
  lsb: 2
}
port_ids {
  msb: 6705644472044571502
  lsb: 11322344664447822101
}
`;

export const PORT_ID = "5d0f3c1e-8a47-4b6e-9d21-0c7be4f3a915";
export const NETWORK_ID = "a2c4e6f8-1b3d-4f57-8e90-7c5d3b1a2f48";
export const HOST_ID = "1f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1";
