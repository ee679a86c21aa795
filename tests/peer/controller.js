// A controller that is npm's hap-controller: pairs with a bridge, uses it, and unpairs.
//
// argv: node_modules, address, port, setup code, serial number of a switch that is off. Prints "listening" when the
// switch is to change from outside, and in the end what it saw, as JSON: test_other_controllers.py has what that
// must be.
"use strict";

const path = require("path");

const [modules, address, port, code, serial] = process.argv.slice(2);
const library = path.join(modules, "hap-controller/lib");
const HttpClient = require(path.join(library, "transport/ip/http-client.js")).default; // the index wants Bluetooth
const sodium = require(path.join(modules, "libsodium-wrappers"));

const SERIAL_NUMBER = /^0*30(-|$)/;
const ON = /^0*25(-|$)/;
const OTHER_ID = "0000000B-2222-4333-8444-555555555555";

function found(accessories) {
    for (const accessory of accessories) {
        const all = accessory.services.flatMap((service) => service.characteristics);
        if (all.some((each) => SERIAL_NUMBER.test(each.type) && each.value === serial)) {
            return `${accessory.aid}.${all.find((each) => ON.test(each.type)).iid}`;
        }
    }
    throw new Error("no such switch");
}

async function refused(ask) {
    try {
        await ask();
    } catch {
        return true;
    }
    return false;
}

function other(known) {
    const keys = sodium.crypto_sign_seed_keypair(Buffer.alloc(32, 11));
    const own = {
        iOSDevicePairingID: Buffer.from(OTHER_ID).toString("hex"),
        iOSDeviceLTSK: Buffer.from(keys.privateKey).toString("hex"),
        iOSDeviceLTPK: Buffer.from(keys.publicKey).toString("hex"),
    };
    return { key: Buffer.from(keys.publicKey), client: new HttpClient("", address, Number(port), { ...known, ...own }) };
}

async function main() {
    const saw = {};
    await sodium.ready;
    const client = new HttpClient("", address, Number(port));
    saw.wrongCode = await refused(() => client.pairSetup("111-22-333"));
    await client.pairSetup(code);
    const on = found((await client.getAccessories()).accessories);
    const read = async (by) => Boolean((await by.getCharacteristics([on])).characteristics[0].value);
    saw.before = await read(client);
    await client.setCharacteristics({ [on]: true });
    saw.after = await read(client);

    const told = new Promise((resolve) => client.on("event", resolve));
    await client.subscribeCharacteristics([on]);
    console.log("listening");
    const [event] = (await told).characteristics;
    saw.event = `${event.aid}.${event.iid}` === on;
    await client.unsubscribeCharacteristics();

    const second = other(client.getLongTermData());
    saw.beforeAdded = await refused(() => read(second.client));
    await client.addPairing(OTHER_ID, second.key, false);
    saw.second = typeof await read(second.client);
    saw.secondLists = await refused(() => second.client.listPairings());
    await client.removePairing(Buffer.from(OTHER_ID));
    saw.afterRemoved = await refused(() => read(other(client.getLongTermData()).client));
    await client.removePairing(Buffer.from(client.getLongTermData().iOSDevicePairingID, "hex"));
    saw.afterUnpaired = await refused(() => read(new HttpClient("", address, Number(port), client.getLongTermData())));
    console.log(JSON.stringify(saw));
    process.exit(0);
}

main();
