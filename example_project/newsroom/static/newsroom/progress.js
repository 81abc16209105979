/** Shows how a run gets on. */

import {follow} from "../django_workflows/client.js";

const STATES = {
    connecting: "connecting",
    live: "live",
    reconnecting: "reconnecting …",
    ended: "ended",
    refused: "refused",
    closed: "closed",
};

function show(section) {
    const find = (selector) => section.querySelector(selector);
    const run = follow(section.dataset.baseUrl, section.dataset.handlerId);

    run.addEventListener("state", ({detail}) => {
        find(".state").dataset.state = detail.state;
        find(".state").textContent = STATES[detail.state];
    });
    run.addEventListener("event", ({detail}) => {
        const {type, value} = detail.event;
        if (type === "Progress") {
            find("progress").max = value.total;
            find("progress").value = value.done;
            find(".count").textContent = `${value.done} of ${value.total} items are done`;
            const item = document.createElement("li");
            item.textContent = value.what;
            find(".items").append(item);
        }
    });
    run.addEventListener("end", ({detail}) => {
        finish(`The run is ${detail.handler.status}. ${detail.handler.error ?? ""}`);
        section.dataset.status = detail.handler.status;
    });
    run.addEventListener("error", ({detail}) => finish(`The run cannot be shown: ${detail.detail}`));
    find(".cancel").addEventListener("click", async () => {
        find(".cancel").disabled = true;
        try {
            await run.cancel();
        } catch (error) {
            find(".cancel").disabled = false;
            finish(`It could not be cancelled: ${error.message}`, false);
        }
    });

    function finish(text, forGood = true) {
        find(".result").textContent = text;
        find(".result").hidden = false;
        find(".cancel").hidden = forGood;
    }
}

document.querySelectorAll(".run").forEach(show);
