//! `whimbrel image`.

use anyhow::Result;
use whimbrel_api::{
    client::ControllerClient,
    native::{self, ImagePart, NewImage},
};

use crate::{args::Image, table};

pub async fn run(client: &ControllerClient, command: Image, json: bool) -> Result<()> {
    match command {
        Image::List => show(&client.images().await?, json),
        Image::Show { image } => one(client.image(&image).await?, json),
        Image::Delete { image } => Ok(client.delete_image(&image).await?),
        Image::Create { name, file, kernel, ramdisk, command_line } => {
            let new = NewImage { name, os_command_line: command_line, disk: None, kernel: None, ramdisk: None };
            let id = client.create_image(&new).await?.id.to_string();
            let parts = [(ImagePart::Disk, Some(file)), (ImagePart::Kernel, kernel), (ImagePart::Ramdisk, ramdisk)];
            for (part, file) in parts {
                let Some(file) = file else { continue };
                if let Err(failure) = client.upload_image(&id, part, &file).await {
                    // An image without its content would only be in the way of the next try.
                    let _ = client.delete_image(&id).await;
                    return Err(failure.into());
                }
            }
            one(client.image(&id).await?, json)
        }
    }
}

fn one(image: native::Image, json: bool) -> Result<()> {
    match json {
        true => table::print_json(&image),
        false => show(&[image], json),
    }
}

fn show(images: &[native::Image], json: bool) -> Result<()> {
    if json {
        return table::print_json(&images);
    }
    let rows = images.iter().map(|image| {
        let disk = image.disk.as_ref();
        vec![
            image.name.clone(),
            disk.map_or("-".to_owned(), |disk| disk.format.driver().to_owned()),
            disk.map_or("-".to_owned(), |disk| table::bytes(disk.virtual_bytes)),
            disk.map_or("-".to_owned(), |disk| table::bytes(disk.file_bytes)),
            if image.kernel.is_some() { "yes" } else { "no" }.to_owned(),
            image.id.to_string(),
        ]
    });
    table::print(&["name", "format", "size", "file", "kernel", "id"], rows.collect());
    Ok(())
}
