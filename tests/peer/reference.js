// HAP-NodeJS serving the switches of tests/peer/peers.py: the reference that hkswitch is compared with.
//
// argv: the folder with node_modules, and JSON: the state folder, bridges and switches.
// The first line on standard output is a JSON object with the bridges' ports, and then there is one for each line on
// standard input: {"set": id, "on": true} changes a switch
// from outside, {"reset": true} turns all off, {"remember": true} notes who is paired with all bridges, and
// {"restore": name} has a bridge paired with those again: some scenarios leave what it cannot remove itself.
"use strict";

const path = require("path");
const readline = require("readline");

const modules = process.argv[2];
const wanted = JSON.parse(process.argv[3]);
const library = path.join(modules, "@homebridge/hap-nodejs/dist");

// It is reached by its port; multicast would leave the loopback interface.
require(path.join(library, "lib/Advertiser.js")).CiaoAdvertiser = class {
    static protocolVersionService = "1.1.0";
    on() {}
    initPort() {}
    async startAdvertising() {}
    updateAdvertisement() {}
    async destroy() {}
};
const hap = require(library);
const { Characteristic, Service } = hap;

hap.HAPStorage.setCustomStoragePath(wanted.folder);

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const unreachable = () => new hap.HapStatusError(hap.HAPStatus.SERVICE_COMMUNICATION_FAILURE);
const switches = [];
const bridges = new Map();

function describe(accessory, values) {
    accessory.getService(Service.AccessoryInformation)
        .setCharacteristic(Characteristic.Manufacturer, values.manufacturer)
        .setCharacteristic(Characteristic.Model, values.model)
        .setCharacteristic(Characteristic.SerialNumber, values.serial)
        .setCharacteristic(Characteristic.FirmwareRevision, values.firmware);
    return accessory;
}

// A switch starts and stops as hkswitch's simulated units do: in `seconds`, answered after `answered` at most.
class Switch {
    constructor(bridge, values) {
        this.values = values;
        this.accessory = describe(new hap.Accessory(values.name, hap.uuid.generate(bridge.name + values.id)), values);
        this.service = this.accessory.addService(Service[values.service]);
        this.on = this.service.getCharacteristic(Characteristic.On);
        this.on.onGet(() => this.state()).onSet((value) => this.write(Boolean(value)));
        this.reset();
    }

    reset() {
        clearTimeout(this.ending);
        this.value = false;
        this.show();
    }

    state() {
        if (this.values.missing) {
            throw unreachable();
        }
        return this.value;
    }

    async write(value) {
        const { seconds, answered, fails } = this.values;
        const works = !(value && fails);
        clearTimeout(this.ending);
        if (seconds <= answered || !value) {
            await sleep(value ? seconds : 0);
            if (!works) {
                throw unreachable();
            }
        } else {
            this.ending = setTimeout(() => works || this.set(false), seconds * 1000);
            await sleep(answered);
        }
        this.value = value; // and the library tells the others
        this.follow();
    }

    set(value) {
        this.value = value;
        this.show();
    }

    show() {
        this.on.updateValue(this.value);
        this.follow();
    }

    follow() {
        if (this.values.service === "Outlet") {
            this.service.updateCharacteristic(Characteristic.OutletInUse, this.value);
        }
    }
}

async function serve(values) {
    const bridge = describe(new hap.Bridge(values.name, hap.uuid.generate(values.name)), values);
    for (const each of wanted.switches) {
        const made = new Switch(values, each);
        switches.push(made);
        bridge.addBridgedAccessory(made.accessory);
    }
    const listening = new Promise((resolve) => bridge.once("listening", (port) => resolve(port)));
    await bridge.publish({
        username: values.username,
        port: 0, // any that is free
        pincode: wanted.code,
        category: hap.Categories.BRIDGE,
        bind: "127.0.0.1",
        addIdentifyingMaterial: false,
    });
    bridges.set(values.name, { port: await listening, info: bridge._accessoryInfo });
}

function copied(clients) {
    return Object.fromEntries(Object.entries(clients).map(([id, client]) => [id, { ...client }]));
}

function pairings(asked) {
    for (const [name, bridge] of bridges) {
        if (asked.remember) {
            bridge.clients = copied(bridge.info.pairedClients);
            bridge.admins = bridge.info.pairedAdminClients;
        } else if (asked.restore === name) {
            bridge.info.pairedClients = copied(bridge.clients);
            bridge.info.pairedAdminClients = bridge.admins;
        }
    }
}

function obey(line) {
    const asked = JSON.parse(line);
    pairings(asked);
    for (const each of switches) {
        if (asked.reset) {
            each.reset();
        } else if (each.values.id === asked.set) {
            each.set(asked.on);
        }
    }
    console.log(JSON.stringify({ done: true }));
}

async function main() {
    for (const each of wanted.bridges) {
        await serve(each);
    }
    readline.createInterface({ input: process.stdin }).on("line", obey).on("close", () => process.exit(0));
    console.log(JSON.stringify(Object.fromEntries([...bridges].map(([name, bridge]) => [name, bridge.port]))));
}

main();
