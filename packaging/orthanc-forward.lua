-- Orthanc sends each new radiograph to the certdicom node (modality "certdicom" in DicomModalities).
-- Segmentations that come back make no new radiograph, so nothing goes round in circles.
local CERTIFIED = {
  ['1.2.840.10008.5.1.4.1.1.1'] = true,     -- Computed Radiography
  ['1.2.840.10008.5.1.4.1.1.1.1'] = true,   -- Digital X-Ray, For Presentation
}

function OnStoredInstance(instanceId, tags, metadata)
  if CERTIFIED[tags['SOPClassUID']] and metadata['RemoteAET'] ~= 'CERTDICOM' then
    SendToModality(instanceId, 'certdicom')
  end
end
